"""Adapter of `cohort`: the tables of `index` and the user's sheet to the cohort sheet."""

from mrsynth import cohort, demographics, digests, flowchart, job, pseudonym, wishes


def work(job_):
    cfg = dict(job_.cfg)
    images, tasks, settings = (cfg.pop(name) for name in ("images", "tasks", "settings"))
    private = cfg.pop("private")
    key = pseudonym.read_key(private, cfg.pop("key_hex", None))
    found = cohort.build(
        cohort.read_table(job_.input.series),
        wishes.read_sheet(str(job_.input.sheet)) if job_.input.get("sheet") else None,
        images,
        tasks,
        key=key,
        persons=demographics.read_persons(private),
        files=cohort.read_table(job_.input.files),
        listed=pseudonym.read_exclusions(private, key),
        **cfg,
    )
    chosen = found.rows[found.rows["status"] == "included"]
    names = chosen[["source_series", "target_series", "bridge_series"]].to_numpy().ravel()
    digests.settle(private, filter(None, names), threads=job_.threads)
    for warning in found.warnings:
        job.log.warning("%s", warning)
    for name in ("rows", "candidates", "flow", "demographics"):
        cohort.write_table(
            getattr(found, name), getattr(job_.output, {"rows": "cohort"}.get(name, name))
        )
    text = demographics.markdown(found.demographics, min_cell=cfg["min_cell"])
    demographics.write_markdown(text, job_.output.text)
    flowchart.write_figure(flowchart.figure(found.flow), job_.output.figure)
    tree = job.read_json(job_.input.tree)["tree"]
    job.write_json({"settings": settings, "tree": tree}, job_.output.settings)


job.run(snakemake, work)
