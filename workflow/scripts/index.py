"""Adapter of `index`: the DICOM trees to the tables of series and files."""

from pathlib import Path

from mrsynth import archives, index, job, pseudonym, volumes

SHEET = "config/volumes.tsv"
"""The schema's default, which Snakemake's own config doesn't hold."""


def work(job_):
    cfg = dict(job_.cfg)
    cfg.pop("tree", None)  # is among the settings so that a changed tree makes the rule run
    roots = cfg.pop("roots", None) or snakemake.config["dicom"]
    others = snakemake.config.get("volumes") or []
    private = cfg.pop("private")
    tree = index.manifest([*roots, *others])
    sheet = Path(snakemake.config.get("volume_sheet") or SHEET)
    found = index.scan(
        roots,
        key=pseudonym.read_key(private, cfg.pop("key_hex", None)),
        links=pseudonym.read_links(private),
        volume_roots=others,
        volume_sheet=volumes.read_sheet(sheet) if others and sheet.exists() else None,
        cache=Path(private) / "unpacked",
        threads=job_.threads,
        **cfg,
    )
    index.write_index(found, job_.output.series, job_.output.files, private)
    archives.forget(Path(private) / "unpacked", list(found.paths["path"]))
    job.write_json({"tree": tree}, job_.output.tree)


job.run(snakemake, work)
