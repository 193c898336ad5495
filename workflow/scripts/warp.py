"""Adapter of `warp`: both images on the fixed image's slices, with the masks of field and body."""

import numpy as np

from mrsynth import job
from mrsynth.volume import read_field, read_stacks, read_volume, write_stacks
from mrsynth.warp import on_fixed_grid


def work(job_):
    cfg = dict(job_.cfg)
    side, alignment = cfg.pop("fixed"), cfg.pop("alignment")
    fixed = read_stacks(job_.input.stacks, side)
    moving = [read_volume(path) for path in job_.input.moving]
    records = [job.read_json(path) for path in job_.input.get("fixed_records") or []]
    matrices = [np.eye(4)] * len(fixed)
    if alignment == "register":
        registered = job.read_json(job_.input.registration)
        matrices = [np.array(stack["matrix"]) for stack in registered["stacks"]]
    acquired = [record.get("thickness_mm") for record in records] or [None] * len(fixed)
    fields = {
        "moving_fields": [read_field(path) for path in job_.input.moving_fields],
        "fixed_fields": [read_field(path) for path in job_.input.fixed_fields],
    }
    images, entries = on_fixed_grid(fixed, moving, matrices, acquired, **fields, **cfg)
    names = {"fixed": side, "moving": "source" if side == "target" else "target"}
    for name, stacks in images.items():
        write_stacks(stacks, job_.output.stacks, names.get(name, name))
    return entries


job.run(snakemake, work)
