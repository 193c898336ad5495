"""Names of subjects: a person's pseudonym, and the visit where it is a further one.

``ABCDEFGH`` is a person's first visit, ``ABCDEFGH_ses-204817`` another one. Files, picks and crops
are a visit's; places in folds, counts and means are a person's.
"""

SUBJECT = r"[A-Z2-7]{8}(_ses-\d+)?"
"""A subject's name as a regular expression: base32 (RFC 4648), and the visit's number."""


def person(subject: str) -> str:
    """The person whom a subject's name stands for: the name without its visit."""
    return subject.split("_", 1)[0]
