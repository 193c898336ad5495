"""Adapter of `forecast`: hours and memory of all trainings, before any is started."""

from mrsynth import job
from mrsynth.forecast import forecast, write_forecast


def work(job_):
    """Time a few steps of every model of the study."""
    write_forecast(forecast(**job_.cfg, threads=job_.threads), job_.output.table)


job.run(snakemake, work)
