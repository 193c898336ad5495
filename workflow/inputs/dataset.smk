"""Inputs and settings of the one stage of data sets, pack."""


def crops(task, subjects, ending):
    """Crop files of a list of subjects."""
    return [f"results/crop/{task}/sub-{subject}{ending}" for subject in subjects]


def every_crop(w):
    """Crop files of all subjects of all tasks."""
    return [
        path for task in STUDY.tasks for path in crops(task, subjects_of(task), ".json")
    ]


def every_pack():
    """Pack files of all tasks, folds and roles."""
    folds = range(STUDY.config["cohort"]["folds"])
    return [
        f"results/pack/{task}/fold-{fold}/{role}.npz"
        for task in STUDY.tasks
        for fold in folds
        for role in (*ROLES, *pools(task))
    ]


def pack_settings(w):
    """Settings of `pack` with the subjects whose crops come in, in order, and people's verdicts on them alone."""
    names = {"task": w.task, "fold": int(w.fold), "role": w.role}
    subjects = {"subjects": members(w), "train_subjects": trainees(w)}
    review = {"review": judged(w.task, subjects)}
    return STUDY.block("pack", w.task) | names | subjects | review


def judged(task, subjects):
    """People's verdicts on the subjects of one pack; a word about anyone else leaves it as it is."""
    wanted = {name for names in subjects.values() for name in names}
    rows = sheet.judgements(Path(STUDY.config["review"]), task)
    return [row for row in rows if row["subject"] in wanted]
