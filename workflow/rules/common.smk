"""Load and check the study, say what each wildcard may be, hand every rule its two params.

Inputs: the config, workflow/schemas/, results/cohort/cohort.tsv once it exists
Outputs: STUDY and the functions below, for the other rule files
Steps: load, validate, constrain wildcards, nothing else; the logic is in mrsynth.study and mrsynth.provenance
"""

import sys
import time
from pathlib import Path

from snakemake.exceptions import WorkflowError
from snakemake.logging import logger

ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT / "src"))

from mrsynth import provenance, pseudonym, roles, sheet, study, subjects
from mrsynth.errors import StudyError

provenance.lead_jobs_to(ROOT / "src")
ENVIRONMENT = str(ROOT / "envs/environment.yaml")
SEGMENT_ENVIRONMENT = str(ROOT / "envs/totalsegmentator.yaml")
COHORT = Path("results/cohort/cohort.tsv")
SUMMARY = Path("results/conclude/summary.md")
START = time.time()
ROLES, POOLS = roles.ROLES, roles.POOLS
TABLES = ("cases", "methods", "differences", "verdicts", "flow")
FIGURES = ("panel", "curves", "errors")

try:
    STUDY = study.load(config, study.load_schemas(ROOT / "workflow/schemas"))
    study.check_targets(sys.argv[1:], STUDY)
    pseudonym.settle_key(STUDY.config["private"], STUDY.config["key_hex"])
    study.check_trees(STUDY, COHORT)
    sheet.check_review(Path(STUDY.config["review"]), COHORT, STUDY.tasks)
except StudyError as error:
    raise WorkflowError(str(error)) from None


wildcard_constraints:
    phantom=r"\d+",
    subject=subjects.SUBJECT,
    image=rf"({'|'.join(STUDY.config['images'])})(_stack-\d+)?",
    task="|".join(STUDY.tasks),
    model="|".join(sorted({m for models in STUDY.models.values() for m in models})),
    fold="|".join(map(str, range(STUDY.config["cohort"]["folds"]))),
    role="|".join((*ROLES, *POOLS)),
    table="|".join(TABLES),
    figure="|".join(FIGURES),


def settings(stage):
    """The merged config block of a stage, as a function of wildcards: the param `cfg`."""

    def block(w):
        model = getattr(w, "model", "") if stage == "train" else ""
        return STUDY.block(stage, getattr(w, "task", ""), model)

    return block


def code(stage, modules=()):
    """Fingerprint of an adapter and of what it imports: the param `code`."""
    return provenance.fingerprint(ROOT / f"workflow/scripts/{stage}.py", tuple(modules))


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


def tell(message):
    """Say something at the start."""
    logger.info(f"mrsynth: {message}")


if workflow.is_main_process:
    for drift in study.drifts(STUDY, Path("results"), provenance.versions()):
        tell(drift)
    for idle in sheet.idle_rows(Path(STUDY.config["review"]), Path("results")):
        tell(idle)
    for empty in sheet.empty_folds(COHORT, STUDY.tasks, STUDY.config["cohort"]):
        tell(empty)


def tell_summary():
    """Print the closing summary, if this run made it."""
    if SUMMARY.exists() and SUMMARY.stat().st_mtime > START:
        logger.info(f"\n{SUMMARY.read_text()}")


def tell_left_out():
    """After a failed run: who was left out so far and why, since the summary may not exist."""
    from mrsynth import conclude

    records = sorted(Path("results").glob("**/sub-*.json"))
    logger.info(f"\n{conclude.listing(conclude.read_records(records))}")
