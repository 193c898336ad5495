"""mrsynth: raw DICOM to trained and evaluated MR synthesis. One include per part, in the order of the data."""

from snakemake.utils import min_version

min_version("9.0")


if not workflow.overwrite_configfiles:

    configfile: "config/config.yaml"


report: "workflow/report/workflow.rst"


include: "workflow/rules/common.smk"
include: "workflow/rules/ingest.smk"
include: "workflow/rules/align.smk"
include: "workflow/rules/slices.smk"
include: "workflow/rules/judge.smk"
include: "workflow/rules/dataset.smk"
include: "workflow/rules/learn.smk"
include: "workflow/rules/assess.smk"


rule all:
    """Everything: tables, figures and the closing summary."""
    default_target: True
    input:
        closing(),


rule preprocess:
    """Up to the crops, without training: look at the figures before spending GPU hours."""
    input:
        lambda w: every_crop(w),
        every_page(),


rule datasets:
    """The packed training, validation and test files of every task and fold."""
    input:
        every_pack(),


rule models:
    """The trained weights of every task, model and fold."""
    input:
        every_model(),


rule tables:
    """The metric tables of every task."""
    input:
        every_table(),


onsuccess:
    tell_summary()


onerror:
    tell_left_out()
