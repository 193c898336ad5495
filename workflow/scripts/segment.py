"""Adapter of `segment`: one subject's native CT to a label map of vertebrae by TotalSegmentator.

Inputs: `ct`, `record_in` (convert's).
Outputs: `record`, `labels`.
"""

from mrsynth import job
from mrsynth.segment import segment


def work(job_):
    segment(job_.input.ct, job_.output.labels, **job_.cfg)


job.run(snakemake, work)
