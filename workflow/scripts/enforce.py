"""Adapter of `enforce`: fail the run if the policy asks for it."""

from pathlib import Path

from mrsynth import job
from mrsynth.enforce import enforce


def work(now):
    """Read the status, write the sentence."""
    Path(now.output.passed).write_text(enforce(job.read_json(now.input.status)))


job.run(snakemake, work)
