"""Adapter of `convert`: one stack of a series to a volume in true values."""

from mrsynth import job, volume
from mrsynth.convert import convert_stack, read_files


def work(job_):
    cfg = dict(job_.cfg)
    files = read_files(job_.input.files, cfg.pop("stack"))
    made = convert_stack(files, **cfg)
    volume.write_volume(made.image, job_.output.image)
    volume.write_field(made.field, job_.output.field)
    return made.record


job.run(snakemake, work)
