"""Adapter of `train`: packed pairs of a fold to a generator's weights, history and options."""

from pathlib import Path

from mrsynth import job, pairs
from mrsynth.roles import POOLS
from mrsynth.train import train


def work(job_):
    """Train one model on one fold; its rolling state stays in the final folder."""
    names = job_.wildcards
    pools = {role: job_.input.get(role) for role in POOLS}
    train(
        pairs.read_pack(job_.input.train),
        pairs.read_pack(job_.input.validation),
        Path(job_.output.weights).parent,
        pools={role: pairs.read_pack(path) for role, path in pools.items() if path},
        state_folder=Path(snakemake.output.weights).parent,
        code=str(snakemake.params.code),
        label=f"{names.task}/{names.model} fold {names.fold}",
        threads=job_.threads,
        **job_.cfg,
    )


job.run(snakemake, work)
