"""Adapter of `crop`: body-sized crops of the picked slices, and the figure to check them by."""

from mrsynth import job
from mrsynth.crop import (
    IMAGES,
    crop,
    measures,
    plot_crops,
    posed_of,
    verdicts_of,
    write_figure,
    write_npz,
)
from mrsynth.pick import read_table
from mrsynth.volume import read_stacks


def work(job_):
    stacks = {name: read_stacks(job_.input.stacks, name) for name in IMAGES}
    known = {}
    if job_.input.get("registration"):
        registration = job.read_json(job_.input.registration)
        count = len(stacks["target"])
        known["verdicts"] = verdicts_of(registration, count)
        known["posed"] = posed_of(registration, count)
    crops = crop(**stacks, picks=read_table(job_.input.picks), **known, **job_.cfg)
    write_npz(crops, job_.output.crops)
    write_figure(plot_crops(crops, **job_.cfg), job_.output.figure)
    return {"slices": measures(crops)}


job.run(snakemake, work)
