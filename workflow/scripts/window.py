"""Adapter of `window`: both sides of a pair as 256 grey levels, masks handed on."""

from mrsynth import job
from mrsynth.volume import read_stacks, write_stacks
from mrsynth.window import to_grey_levels


def work(job_):
    masks = {name: read_stacks(job_.input.stacks, name) for name in ("body", "valid")}
    ranges, only = {}, job_.cfg["only"]
    for side in ("source", "target"):
        images = read_stacks(job_.input.stacks, side)
        if only in ("", side):
            images, ranges[side] = to_grey_levels(images, **masks, **job_.cfg[side])
        write_stacks(images, job_.output.stacks, side)
    for name, images in masks.items():
        write_stacks(images, job_.output.stacks, name)
    return {"ranges": ranges}


job.run(snakemake, work)
