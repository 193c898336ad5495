"""Adapter of `convert`: one stack of a series to a volume in true values."""

from mrsynth import job, volume
from mrsynth.convert import convert, read_files


def work(job_):
    cfg = dict(job_.cfg)
    files = read_files(job_.input.files, cfg.pop("stack"))
    image, entries = convert(files, **cfg)
    volume.write_volume(image, job_.output.image)
    return entries


job.run(snakemake, work)
