"""Adapter of `plot`: one figure of a task."""

import pandas as pd

from mrsynth import job
from mrsynth.evaluate import read_arrays, read_table
from mrsynth.plot import make, read_history, write_figure


def work(job_):
    """Draw the figure that the wildcard names."""
    figure = make(
        job_.wildcards.figure,
        packs=[read_arrays(path) for path in job_.input.tests],
        syntheses=[read_arrays(path) for path in job_.input.synthetic],
        histories=[read_history(path) for path in job_.input.histories],
        long=pd.concat([read_table(path) for path in job_.input.tables], ignore_index=True),
        **job_.cfg,
    )
    write_figure(figure, job_.output.figure)


job.run(snakemake, work)
