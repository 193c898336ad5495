"""Adapter of `resample`: source and target stacks on the task's grid."""

from mrsynth import job
from mrsynth.resample import resample
from mrsynth.volume import read_volume, write_stacks


def work(job_):
    entries = {}
    for name in ("source", "target"):
        stacks = [
            resample(read_volume(path), **(job_.cfg.get(name) or {})) for path in job_.input[name]
        ]
        write_stacks(stacks, job_.output.stacks, name)
        entries[name] = [
            {"size": list(stack.GetSize()), "spacing_mm": list(stack.GetSpacing())}
            for stack in stacks
        ]
    return entries


job.run(snakemake, work)
