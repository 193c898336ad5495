"""Adapter of `locate`: one subject's native CT to a record with landmarks and a page to look at.

Inputs: `ct`, `record_in` (convert's), and `file`, empty where the source is `auto` or the subject
has none.
Outputs: `record`, `figure`.
"""

from mrsynth import job
from mrsynth.locate import figure, locate
from mrsynth.volume import read_volume


def work(job_):
    ct = read_volume(job_.input.ct)
    landmarks = locate(ct, file=str(job_.input.get("file") or ""), **job_.cfg)
    figure(ct, landmarks, job_.output.figure)
    return landmarks.to_dict()


job.run(snakemake, work)
