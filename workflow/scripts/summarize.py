"""Adapter of `summarize`: one table of a task, for machines (TSV) and for people (Markdown)."""

import pandas as pd

from mrsynth import job
from mrsynth.evaluate import read_table
from mrsynth.summarize import make, markdown, write_frame, write_text


def work(job_):
    """Make the table that the wildcard names."""
    cfg = dict(job_.cfg)
    rows = cfg.pop("flow", [])
    long = pd.concat([read_table(path) for path in job_.input.tables], ignore_index=True)
    frame = make(job_.wildcards.table, long, flow_rows=rows, **cfg)
    write_frame(frame, job_.output.table)
    told = {key: cfg[key] for key in ("verdicts",) if key in cfg}
    write_text(markdown(job_.wildcards.table, frame, **told), job_.output.text)


job.run(snakemake, work)
