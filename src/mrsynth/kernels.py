"""How sharp a CT reconstruction kernel is, by the vendors' own names.

A sharp kernel lifts noise and edges: soft tissue drowns and a bone's rim overshoots, so that HU no
longer mean one tissue. Siemens' classes follow the operating instructions of the SOMATOM
Sensation; those of the others are common usage, which we found in no public document. What is
unclear is neutral.
"""

import re

SOFT, NEUTRAL, SHARP = 0, 1, 2

SIEMENS = re.compile(r"([A-Z][a-z]?)(\d\d)")
"""Siemens (B30f, I31s, Br40, Hr36, Qr59) and those who name likewise: family and resolution."""
SIEMENS_SOFT_BELOW = 50
"""Siemens recommends B30 and B40 for body tissue and B50 upwards for higher sharpness; the index
of the newer names (Br40) grows in the same sense."""
SIEMENS_SHARP_FROM = 56
"""B60 and B70 are for bone and lung, and so are Br56 upwards."""
SIEMENS_LUNG = ("Bl", "Ul")
"""Families for the lung, sharp at any index."""

CANON = re.compile(r"FC(\d\d)(-H)?")
"""Canon and Toshiba: a two-digit number, whose tens group the uses; some scanners add ``-H``."""
CANON_TENS = {0: SOFT, 1: SOFT, 2: SOFT, 3: SHARP, 5: SHARP, 8: SHARP}
"""FC01–19 body, FC20–29 brain, FC30–39 and FC80–89 bone, FC50–59 lung; the rest is left neutral."""

LETTERS = {"A": SOFT, "B": SOFT, "C": SOFT, "UA": SOFT, "UB": SOFT, "D": SHARP, "E": SHARP}
LETTERS |= {"L": SHARP, "YA": SHARP, "YB": SHARP, "YC": SHARP, "YD": SHARP, "YE": SHARP}
"""Philips: A to C from smooth to standard, UA and UB brain, D, E and Y… bone, L lung."""

WORDS = {"BONE": SHARP, "LUNG": SHARP, "EDGE": SHARP, "SHARP": SHARP, "ULTRA": SHARP}
WORDS |= {"STANDARD": SOFT, "SOFT": SOFT, "SMOOTH": SOFT, "BRAIN": SOFT}
"""GE (STANDARD, SOFT; BONE, BONEPLUS, EDGE, LUNG) and others that use words; DETAIL is neutral."""


def sharpness(kernel: str) -> int:
    """Whether a kernel is soft, neutral (or unknown), or sharp.

    Args:
        kernel: The column ``kernel`` of the series table: the vendor's name, a keyed hash where it
            is none that is known, or empty.

    Returns:
        :data:`SOFT`, :data:`NEUTRAL` or :data:`SHARP`, in the order of preference.
    """
    name = kernel.strip()
    if not name or name.startswith("krn-"):
        return NEUTRAL
    upper = name.upper()
    if upper in LETTERS:
        return LETTERS[upper]
    if match := CANON.fullmatch(upper):
        return CANON_TENS.get(int(match[1]) // 10, NEUTRAL)
    for word, found in WORDS.items():
        if word in upper:
            return found
    if match := SIEMENS.match(name[:1].upper() + name[1:]):
        index = int(match[2])
        if match[1] in SIEMENS_LUNG or index >= SIEMENS_SHARP_FROM:
            return SHARP
        return SOFT if index < SIEMENS_SOFT_BELOW else NEUTRAL
    return NEUTRAL
