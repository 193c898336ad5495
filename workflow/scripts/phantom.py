"""Adapter of `phantom`: one subject's raw DICOM and its truth."""

from mrsynth import job, phantom


def work(job_):
    """Outputs ``dicom`` and ``truth`` are folders; the wildcard ``phantom`` is a number."""
    number = int(job_.wildcards.phantom)
    return phantom.make(number, job_.output.dicom, job_.output.truth, **job_.cfg)


job.run(snakemake, work)
