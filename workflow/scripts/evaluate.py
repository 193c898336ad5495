"""Adapter of `evaluate`: a model's and the baselines' test images against the real ones."""

from mrsynth import job
from mrsynth.evaluate import evaluate, read_arrays, write_table


def work(job_):
    """Measure one model on one fold."""
    names = job_.wildcards
    long = evaluate(
        read_arrays(job_.input.synthetic),
        read_arrays(job_.input.test),
        read_arrays(job_.input.train),
        **{"task": names.task, "model": names.model, "fold": int(names.fold)} | job_.cfg,
    )
    write_table(long, job_.output.table)


job.run(snakemake, work)
