"""The two ways in which mrsynth says no: to a patient's data, and to a study's settings."""


class Refusal(Exception):
    """A subject's data can't go on. It becomes a record in the results, never a failed job.

    Args:
        code: Upper-case reason code, explained in ``docs/refusals.md``, e.g. ``MISSING_SLICES``.
        message: What was found, with its numbers. Holds no identity, no path, no header text.
        remedy: What the user can do about it.
    """

    def __init__(self, code: str, message: str, remedy: str = ""):
        super().__init__(f"{code}: {message}" + (f" Remedy: {remedy}" if remedy else ""))
        self.code = code
        self.message = message
        self.remedy = remedy


class StudyError(ValueError):
    """A setting or a user's file is wrong. Names the key or file, the value and the remedy."""
