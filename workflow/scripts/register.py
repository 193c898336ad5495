"""Adapter of `register`: the pose of the moving image under each fixed stack, with a QC figure."""

import SimpleITK as sitk

from mrsynth import job
from mrsynth.errors import Refusal
from mrsynth.register import register, register_stacks
from mrsynth.register.figure import write_figure
from mrsynth.register.landmarks import region
from mrsynth.volume import read_stacks, read_volume


def work(job_):
    cfg = dict(job_.cfg)
    side = cfg.pop("fixed")
    stacks = read_stacks(job_.input.stacks, side)
    moving = read_stacks(job_.input.stacks, "source" if side == "target" else "target")
    if len(moving) != 1:
        raise Refusal(
            "MOVING_STACKS",
            f"the moving image holds {len(moving)} stacks; only one volume can be moved.",
            "Swap the task's `fixed` side, or choose a series of one stack.",
        )
    landmarks, bridge = job_.input.get("landmarks"), job_.input.get("bridge")
    roi = region(job.read_json(landmarks)) if landmarks and side == "target" else None
    if len(stacks) == 1 and not bridge:
        whole, single = register(stacks[0], moving[0], roi=roi, **cfg), []
    else:
        image = read_volume(bridge) if bridge else None
        whole, single = register_stacks(stacks, moving[0], bridge=image, roi=roi, **cfg)
    sitk.WriteTransform(whole.transform, job_.output.transform)
    note = f"sub-{job_.wildcards.subject}"
    write_figure(job_.output.figure, stacks, moving[0], whole, single, stack_note=note)
    return {
        "fixed": side,
        "matrix": whole.matrix,
        "verdict": whole.verdict,
        "measures": whole.measures,
        "stacks": [
            {"stack": n, "matrix": r.matrix, "verdict": r.verdict, "measures": r.measures}
            for n, r in enumerate(single or [whole], start=1)
        ],
    }


job.run(snakemake, work)
