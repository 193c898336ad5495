"""From crops to what a training reads.

Inputs: results/crop/; verdicts of people from config/review.tsv through the settings
Outputs: results/pack/
Steps: pack (the range of the training subjects applied to all; one resampling; one file per fold and role)
"""


include: "../inputs/dataset.smk"


rule pack:
    """Apply verdicts and the crop range measured on the training subjects; resample once to the final size."""
    input:
        crops=lambda w: crops(w.task, members(w), ".npz"),
        records=lambda w: crops(w.task, members(w), ".json"),
        train_crops=lambda w: crops(w.task, trainees(w), ".npz"),
        train_records=lambda w: crops(w.task, trainees(w), ".json"),
    output:
        pack="results/pack/{task}/fold-{fold}/{role}.npz",
        record="results/pack/{task}/fold-{fold}/{role}.json",
    log:
        "logs/pack/{task}/fold-{fold}/{role}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=8000,
    params:
        cfg=lambda w: pack_settings(w),
        code=code("pack"),
    script:
        "../scripts/pack.py"
