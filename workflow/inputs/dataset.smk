"""Inputs and settings of the one stage of data sets, pack."""


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
