"""Adapter of `pack`: one file per task, fold and role, by the training subjects' crop range."""

from mrsynth import job
from mrsynth.crop import read_npz, write_npz
from mrsynth.pack import assemble


def work(job_):
    arrays, entries = assemble(
        [read_npz(path) for path in job_.input.crops],
        [job.read_json(path) for path in job_.input.records],
        [read_npz(path) for path in job_.input.train_crops],
        [job.read_json(path) for path in job_.input.train_records],
        **job_.cfg,
    )
    write_npz(arrays, job_.output.pack)
    return entries


job.run(snakemake, work)
