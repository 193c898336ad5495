"""Adapter of `index`: the DICOM trees to the tables of series and files."""

from mrsynth import index, job, pseudonym


def work(job_):
    cfg = dict(job_.cfg)
    cfg.pop("tree", None)  # is among the settings so that a changed tree makes the rule run
    roots = cfg.pop("roots", None) or snakemake.config["dicom"]
    private = cfg.pop("private")
    tree = index.manifest(roots)
    found = index.scan(
        roots,
        key=pseudonym.read_key(private, cfg.pop("key_hex", None)),
        links=pseudonym.read_links(private),
        threads=job_.threads,
        **cfg,
    )
    index.write_index(found, job_.output.series, job_.output.files, private)
    job.write_json({"tree": tree}, job_.output.tree)


job.run(snakemake, work)
