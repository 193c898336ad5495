"""Adapter of `warp`: both images on the fixed image's slices, with the masks of field and body."""

import numpy as np

from mrsynth import job
from mrsynth.locate.landmarks import Landmarks
from mrsynth.reformat import disc_stacks
from mrsynth.volume import read_field, read_stacks, read_volume, write_stacks
from mrsynth.warp import alone, on_fixed_grid


def work(job_):
    cfg = dict(job_.cfg)
    side, alignment = cfg.pop("fixed"), cfg.pop("alignment")
    fields = {
        name: [read_field(path) for path in job_.input[name]]
        for name in ("moving_fields", "fixed_fields")
    }
    planes = cfg.pop("planes")
    if alignment == "alone":
        images, entries = _alone(job_, side, fields["fixed_fields"], planes, cfg)
    else:
        images, entries = _paired(job_, side, alignment, fields, cfg)
    names = {"fixed": side, "moving": "source" if side == "target" else "target"}
    for name, stacks in images.items():
        write_stacks(stacks, job_.output.stacks, names.get(name, name))
    return entries


def _paired(job_, side, alignment, fields, cfg):
    """A pair on the fixed image's slices."""
    fixed = read_stacks(job_.input.stacks, side)
    moving = [read_volume(path) for path in job_.input.moving]
    records = [job.read_json(path) for path in job_.input.get("fixed_records") or []]
    matrices = [np.eye(4)] * len(fixed)
    if alignment == "register":
        registered = job.read_json(job_.input.registration)
        matrices = [np.array(stack["matrix"]) for stack in registered["stacks"]]
    acquired = [record.get("thickness_mm") for record in records] or [None] * len(fixed)
    return on_fixed_grid(fixed, moving, matrices, acquired, **fields, **cfg)


def _alone(job_, side, fields, planes, cfg):
    """A subject's only image: on its own slices, or a CT on its discs' planes."""
    threshold = cfg["body_threshold"]
    if not job_.input.get("planes"):
        return alone(read_stacks(job_.input.stacks, side), fields, body_threshold=threshold)
    landmarks = Landmarks.from_dict(job.read_json(job_.input.planes))
    native = read_stacks(job_.input.stacks, side)[0]
    shared = {key: cfg[key] for key in ("samples", "pad")}
    stacks, fields = disc_stacks(native, landmarks, fields[0], **planes, **shared)
    return alone(stacks, fields, body_threshold=threshold)


job.run(snakemake, work)
