"""From crops to what a training reads.

Inputs: results/crop/, config/review.tsv (verdicts of people, optional)
Outputs: results/pack/
Steps: pack (the range of the training subjects applied to all; one resampling; one file per fold and role)
"""


def crops(task, subjects, ending):
    """Crop files of a list of subjects."""
    return [f"results/crop/{task}/sub-{subject}{ending}" for subject in subjects]


def every_crop(w):
    """Crop files of all included pairs of all tasks."""
    return [path for task in STUDY.tasks for path in crops(task, paired(task), ".json")]


def every_pack():
    """Pack files of all tasks, folds and roles."""
    folds = range(STUDY.config["cohort"]["folds"])
    return expand(
        "results/pack/{task}/fold-{fold}/{role}.npz",
        task=STUDY.tasks,
        fold=folds,
        role=ROLES,
    )


def pack_settings(w):
    """Settings of `pack` with the subjects whose crops come in, in order."""
    names = {"task": w.task, "fold": int(w.fold), "role": w.role}
    return (
        STUDY.block("pack", w.task)
        | names
        | {
            "subjects": members(w),
            "train_subjects": trainees(w),
        }
    )


rule pack:
    """Apply verdicts and the crop range measured on the training subjects; resample once to the final size."""
    input:
        crops=lambda w: crops(w.task, members(w), ".npz"),
        records=lambda w: crops(w.task, members(w), ".json"),
        train_crops=lambda w: crops(w.task, trainees(w), ".npz"),
        train_records=lambda w: crops(w.task, trainees(w), ".json"),
        review=existing(STUDY.config["review"]),
    output:
        pack="results/pack/{task}/fold-{fold}/{role}.npz",
        record="results/pack/{task}/fold-{fold}/{role}.json",
    log:
        "logs/pack/{task}/fold-{fold}/{role}.log",
    resources:
        mem_mb=8000,
    params:
        cfg=lambda w: pack_settings(w),
        code=code("pack"),
    script:
        "../scripts/pack.py"
