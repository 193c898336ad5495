"""Adapter of `conclude`: the closing summary and the exit policy's decision."""

from pathlib import Path

from mrsynth import job, provenance
from mrsynth.conclude import conclude, read_frame, read_options, read_records, write_study
from mrsynth.summarize import write_text


def work(job_):
    """Sum the study up, and write its settings and the versions beside the summary."""
    cfg = dict(job_.cfg)
    study = cfg.pop("study")
    weights = [Path(path).with_name("weights.safetensors") for path in job_.input.options]
    conclusion = conclude(
        read_records(job_.input.records),
        [read_options(path) for path in job_.input.options],
        [read_frame(path) for path in job_.input.tables],
        packs=read_records(job_.input.packs),
        paths=[str(path) for path in (*job_.input.tables, *job_.input.figures, *weights)],
        **cfg,
    )
    write_text(conclusion.text, job_.output.summary)
    job.write_json(conclusion.status, job_.output.status)
    write_study(study, job_.output.study)
    commit = provenance.commit(Path(__file__).parent)
    job.write_json(provenance.versions() | {"commit": commit}, job_.output.versions)


job.run(snakemake, work)
