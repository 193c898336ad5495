"""The exit policy: whether a run that left subjects out counts as a failure."""

from mrsynth.errors import StudyError


def enforce(status: dict) -> str:
    """One sentence that says that nothing was left out.

    Args:
        status: What ``conclude`` wrote: ``left_out`` is the number of subjects left out.

    Raises:
        StudyError: If a subject was left out.
    """
    if status["left_out"]:
        raise StudyError(
            f"{status['left_out']} subject(s) were left out and config key 'on_refusal' = 'fail'; "
            "results/conclude/summary.md lists them with the remedies. Mend the data, exclude them "
            "in config/cohort.tsv, or set 'on_refusal: report'"
        )
    return "No subject was left out.\n"
