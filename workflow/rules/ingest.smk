"""From raw DICOM to volumes.

Inputs: the trees of `dicom` and `volumes`, config/cohort.tsv and config/volumes.tsv (the user's sheets, optional)
Outputs: results/index/, results/cohort/, results/convert/
Steps: phantom (the demo's input), index, cohort, convert
"""


include: "../inputs/ingest.smk"


rule phantom:
    """Make the raw DICOM of one subject of a digital lumbar-spine cohort, with its truth beside it."""
    output:
        dicom=directory("results/phantom/dicom/{phantom}"),
        truth=directory("results/phantom/truth/{phantom}"),
    log:
        "logs/phantom/{phantom}.log",
    benchmark:
        "results/benchmarks/phantom/{phantom}.tsv"
    conda:
        ENVIRONMENT
    resources:
        mem_mb=3000,
    params:
        cfg=lambda w: phantom_settings(w),
        code=code("phantom"),
    script:
        "../scripts/phantom.py"


rule index:
    """List every series and account for every file, from headers alone; identities stay in private/."""
    input:
        phantoms=phantom_folders(),
        links=private_lists("links"),
    output:
        series="results/index/series.tsv",
        files="results/index/files.tsv",
        tree="results/index/tree.json",
    log:
        "logs/index/index.log",
    benchmark:
        "results/benchmarks/index/index.tsv"
    conda:
        ENVIRONMENT
    threads: 8
    params:
        cfg=lambda w: index_settings(w),
        code=code("index"),
    script:
        "../scripts/index.py"


checkpoint cohort:
    """Choose series, pair source and target, exclude with a reason, give every subject its place in [0, 1)."""
    input:
        series="results/index/series.tsv",
        tree="results/index/tree.json",
        files="results/index/files.tsv",
        sheet=existing(STUDY.config["sheet"]),
        private=private_lists(),
    output:
        cohort="results/cohort/cohort.tsv",
        candidates="results/cohort/candidates.tsv",
        flow="results/cohort/flow.tsv",
        figure=report(
            "results/cohort/flow.png",
            caption="../report/flow.rst",
            category="Cohort",
        ),
        demographics="results/cohort/demographics.tsv",
        text=report(
            "results/cohort/demographics.md",
            caption="../report/demographics.rst",
            category="Cohort",
        ),
        settings="results/cohort/settings.json",
    log:
        "logs/cohort/cohort.log",
    conda:
        ENVIRONMENT
    threads: 4
    params:
        cfg=lambda w: cohort_settings(w),
        code=code("cohort"),
    script:
        "../scripts/cohort.py"


rule convert:
    """Turn one stack of one series into a volume in true HU or signal, LPS mm, checked slice by slice; mask what was not measured."""
    input:
        files=lambda w: series_files(w),
    output:
        image="results/convert/sub-{subject}_{image}.nii.gz",
        field="results/convert/sub-{subject}_{image}_field.nii.gz",
        record="results/convert/sub-{subject}_{image}.json",
    log:
        "logs/convert/sub-{subject}_{image}.log",
    conda:
        ENVIRONMENT
    params:
        cfg=lambda w: convert_settings(w),
        code=code("convert"),
    script:
        "../scripts/convert.py"
