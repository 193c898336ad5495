"""Adapter of `register`: the pose of the moving image under each fixed stack, with a QC figure."""

import SimpleITK as sitk

from mrsynth import job
from mrsynth.errors import Refusal
from mrsynth.register import register, register_stacks
from mrsynth.register.figure import write_figure
from mrsynth.register.landmarks import aim, region
from mrsynth.volume import read_stacks, read_volume


def usable_bridge(job_) -> tuple[str | None, str]:
    """Path of the bridge, if it was made, and what became of it: a refused one refuses nobody."""
    path, record = job_.input.get("bridge"), job_.input.get("bridge_record")
    if not path:
        return None, "none"
    if record and job.read_json(record).get("status") != "made":
        return None, "refused"
    return path, "used"


def spine_of(landmarks, frame: str) -> dict:
    """The landmarks' record where it is in the moving image's frame, as `register` needs it."""
    return job.read_json(landmarks) if landmarks and frame == "moving" else {}


def mask(job_, side):
    """The user's mask of a side, where there is one."""
    path = job_.input.get(f"{side}_mask")
    return read_volume(path[0] if isinstance(path, list) else path) if path else None


def work(job_):
    cfg = dict(job_.cfg)
    side, frame = cfg.pop("fixed"), cfg.pop("landmarks_frame")
    stacks = read_stacks(job_.input.stacks, side)
    moving = read_stacks(job_.input.stacks, "source" if side == "target" else "target")
    if len(moving) != 1:
        raise Refusal(
            "MOVING_STACKS",
            f"the moving image holds {len(moving)} stacks; only one volume can be moved.",
            "Swap the task's `fixed` side, or choose a series of one stack.",
        )
    spine = spine_of(job_.input.get("landmarks"), frame)
    sides = (side, "source" if side == "target" else "target")
    cfg |= {"roi": region(spine), "aim": aim(spine), "masks": tuple(mask(job_, s) for s in sides)}
    bridge, bridged = usable_bridge(job_)
    if len(stacks) == 1 and not bridge:
        whole, single = register(stacks[0], moving[0], **cfg), []
    else:
        image = read_volume(bridge) if bridge else None
        whole, single = register_stacks(stacks, moving[0], bridge=image, **cfg)
    sitk.WriteTransform(whole.transform, job_.output.transform)
    note = f"sub-{job_.wildcards.subject}"
    write_figure(
        job_.output.figure, stacks, moving[0], whole, single, stack_note=note, spine=cfg["roi"]
    )
    return {
        "fixed": side,
        "bridge": bridged,
        **entry(whole),
        "stacks": [{"stack": n, **entry(r)} for n, r in enumerate(single or [whole], start=1)],
    }


def entry(result) -> dict:
    """A registration as it stands in the record."""
    names = ("matrix", "verdict", "posed", "measures")
    return {name: getattr(result, name) for name in names}


job.run(snakemake, work)
