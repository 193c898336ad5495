"""Adapter of `pack`: one file per task, fold and role, by the training subjects' crop range."""

from mrsynth import job
from mrsynth.crop import read_npz, write_npz
from mrsynth.pack import assemble
from mrsynth.verdicts import read_review


def work(job_):
    cfg, review = dict(job_.cfg), job_.input.get("review")
    if review:
        review = read_review(review if isinstance(review, str) else review[0])
    arrays, entries = assemble(
        [read_npz(path) for path in job_.input.crops],
        [job.read_json(path) for path in job_.input.records],
        [read_npz(path) for path in job_.input.train_crops],
        [job.read_json(path) for path in job_.input.train_records],
        review=review if review is not None and len(review) else None,
        **cfg,
    )
    write_npz(arrays, job_.output.pack)
    return entries


job.run(snakemake, work)
