"""Adapter of `index`: the DICOM trees to the tables of series and files."""

from mrsynth import index, job, pseudonym


def work(job_):
    cfg = dict(job_.cfg)
    roots, private, key_hex = (cfg.pop(name) for name in ("roots", "private", "key_hex"))
    tree = index.manifest(roots)
    found = index.scan(
        roots,
        key=pseudonym.read_key(private, key_hex),
        links=pseudonym.read_links(private),
        threads=job_.threads,
        **cfg,
    )
    index.write_index(found, job_.output.series, job_.output.files, private)
    job.write_json({"tree": tree}, job_.output.tree)


job.run(snakemake, work)
