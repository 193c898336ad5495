"""Who is in a task: its pairs, its unpaired pools, and the roles of a fold."""


def cohort_rows():
    """Rows of the cohort sheet; on a new study the checkpoint makes it first."""
    if not COHORT.exists():
        checkpoints.cohort.get()
    return sheet.read_cohort(COHORT)


def row_of(task, subject):
    """The included row of one subject in one task."""
    return sheet.find_row(cohort_rows(), task, subject)


def paired(task):
    """Pseudonyms of a task's included pairs."""
    return sheet.paired(cohort_rows(), task)


def side_of(task, subject):
    """The one side that a subject of the pools has; empty for a pair."""
    pool = row_of(task, subject)["pool"]
    return "" if pool == "paired" else pool


def pools(task):
    """Packs of unpaired images that some model of a task trains on, by role and side."""
    return (
        {"source_pool": "source", "target_pool": "target"}
        if STUDY.needs_pools(task)
        else {}
    )


def subjects_of(task):
    """Pseudonyms of everybody whose images a task uses: its pairs, and its pools where it trains on them."""
    lonely = [sheet.pool(cohort_rows(), task, side) for side in pools(task).values()]
    return sorted([*paired(task), *sum(lonely, [])])


def members(w):
    """Pseudonyms of the subjects that play a role in a fold of a task."""
    if w.role in pools(w.task):
        return sheet.pool(cohort_rows(), w.task, pools(w.task)[w.role])
    return sheet.members(
        cohort_rows(), w.task, w.role, int(w.fold), STUDY.config["cohort"]
    )


def trainees(w):
    """Pseudonyms of a fold's training subjects; a fold without any is refused before its jobs."""
    rows, cohort = cohort_rows(), STUDY.config["cohort"]
    try:
        return sheet.trainees(rows, w.task, int(w.fold), cohort)
    except StudyError as error:
        raise WorkflowError(str(error)) from None


def per_model(pattern):
    """A path pattern expanded over models and folds of every task."""
    folds = range(STUDY.config["cohort"]["folds"])
    return [
        pattern.format(task=task, model=model, fold=fold)
        for task in STUDY.tasks
        for model in STUDY.models[task]
        for fold in folds
    ]
