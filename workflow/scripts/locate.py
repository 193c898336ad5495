"""Adapter of `locate`: one subject's native CT to a record with landmarks and a page to look at.

Inputs: `ct`, `record_in` (convert's), and `file` where the source is `labels` or `landmarks`.
Outputs: `record`, `figure`.
"""

from mrsynth import job
from mrsynth.locate import figure, locate
from mrsynth.volume import read_volume


def work(job_):
    ct = read_volume(job_.input.ct)
    cfg = {key: value for key, value in job_.cfg.items() if key != "file"}
    # The settings hold a pattern for all subjects; the rule has made it this subject's input.
    landmarks = locate(ct, file=dict(job_.input.items()).get("file", ""), **cfg)
    figure(ct, landmarks, job_.output.figure)
    return landmarks.to_dict()


job.run(snakemake, work)
