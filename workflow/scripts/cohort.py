"""Adapter of `cohort`: the series table and the user's sheet to the cohort sheet."""

from mrsynth import cohort, job, pseudonym


def work(job_):
    cfg = dict(job_.cfg)
    images, tasks, settings = (cfg.pop(name) for name in ("images", "tasks", "settings"))
    key = pseudonym.read_key(cfg.pop("private"), cfg.pop("key_hex", None))
    sheet = cohort.read_sheet(str(job_.input.sheet)) if job_.input.get("sheet") else None
    series = cohort.read_series(job_.input.series)
    found = cohort.build(series, sheet, images, tasks, key=key, **cfg)
    cohort.write_table(found.rows, job_.output.cohort)
    cohort.write_table(found.flow, job_.output.flow)
    cohort.write_table(found.demographics, job_.output.demographics)
    tree = job.read_json(job_.input.tree)["tree"]
    job.write_json({"settings": settings, "tree": tree}, job_.output.settings)


job.run(snakemake, work)
