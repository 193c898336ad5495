"""Adapter of `synthesize`: a generator and the test subjects' pack to synthetic images."""

from mrsynth import device, job, pairs
from mrsynth.synthesize import load, pack_synthetic, write_synthetic


def work(job_):
    """Synthesise every slice of the pack."""
    device.use_threads(job_.threads)
    generator = load(job_.input.weights, job_.input.options, **job_.cfg)
    pack = pairs.read_pack(job_.input.pack)
    write_synthetic(pack_synthetic(generator, pack), job_.output.synthetic)


job.run(snakemake, work)
