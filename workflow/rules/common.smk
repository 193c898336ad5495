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


include: "../inputs/subjects.smk"


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
