"""Which vertebra a value of a label map is: the tables of known tools, and whether one fits."""

from itertools import pairwise

import numpy as np
import SimpleITK as sitk

from mrsynth.errors import Refusal, StudyError
from mrsynth.locate.levels import VERTEBRAE
from mrsynth.volume import affine

# From the sacrum up, with the vertebrae that only some people have.
ORDER = ("S1", "L6", *VERTEBRAE[1:6], "T13", *VERTEBRAE[6:])
EXTRA = ("L6", "T13")
_LUMBAR_UP = VERTEBRAE[1:6]
_THORACIC_UP = VERTEBRAE[6:]


def _table(sacrum: int, lumbar: range, thoracic: range, **extra: int) -> dict[str, int]:
    return (
        {"S1": sacrum}
        | dict(zip(_LUMBAR_UP, lumbar, strict=True))
        | dict(zip(_THORACIC_UP, thoracic, strict=True))
        | extra
    )


# TotalSegmentator's task `total`: version 1 has the whole sacrum at 92, version 2 has S1 at 26
# apart from the sacrum, version 3 has L6 at 26 and the whole sacrum at 25. `verse` is VerSe 2020;
# the instance masks of SPINEPS and TPTBox use the same numbers (their discs, 100 higher, and
# endplates, 200 higher, are left alone). `totalspineseg` is its step 2 output.
NUMBERINGS = {
    "totalsegmentator": _table(26, range(27, 32), range(32, 44)),
    "totalsegmentator_v1": _table(92, range(18, 23), range(23, 35)),
    "totalsegmentator_v3": _table(25, range(27, 32), range(32, 44), L6=26),
    "verse": _table(26, range(24, 19, -1), range(19, 7, -1), L6=25, T13=28),
    "spineps": _table(26, range(24, 19, -1), range(19, 7, -1), L6=25, T13=28),
    "totalspineseg": _table(50, range(45, 40, -1), range(32, 20, -1), L6=46),
}
# Tables that `auto` tells apart; `spineps` is `verse` by another name.
DISTINCT = tuple(name for name in NUMBERINGS if name != "spineps")
# Distance between the middles of neighbouring labelled vertebrae, arches included, mm; the whole
# sacrum's middle is farther from L5's.
STEP_MM, SACRUM_MM = (14.0, 55.0), 95.0
# Part of a step that may go sideways: a vertebra's neighbour is above or below it.
ASIDE = 0.8
# Labels smaller than this (mm³) are vertebrae cut by the scan's edge, whose middle says nothing.
LEAST_MM3 = 3000.0


def table_of(numbering: str | dict[str, int], labels: sitk.Image) -> dict[str, int]:
    """The values of the vertebrae in a label map.

    Args:
        numbering: A name of :data:`NUMBERINGS`, ``auto``, or a table of vertebra to value.
        labels: The label map.

    Raises:
        StudyError: For an unknown numbering or vertebra.
        Refusal: ``BAD_NUMBERING`` if the vertebrae don't follow each other as the numbering says,
            or if ``auto`` finds none or several that fit.
    """
    if isinstance(numbering, dict):
        unknown = sorted(set(numbering) - set(ORDER))
        if unknown:
            raise StudyError(f"locate.numbering: {unknown[0]!r} is no vertebra such as `L4`")
        named = {"the table": numbering}
    elif numbering == "auto":
        named = {name: NUMBERINGS[name] for name in DISTINCT}
    elif numbering in NUMBERINGS:
        named = {numbering: NUMBERINGS[numbering]}
    else:
        known = ", ".join(["auto", *NUMBERINGS])
        raise StudyError(f"locate.numbering is {numbering!r}, it must be one of {known}")
    places = middles(labels)
    lengths = {name: run_length(table, places) for name, table in named.items()}
    fitting = [name for name, length in lengths.items() if length >= 2]
    if numbering == "auto":
        fitting = _best(fitting, lengths, places)
        if len(fitting) != 1:
            found = " and ".join(fitting) or "none"
            raise _refusal(f"`locate.numbering: auto` is not clear about it, it fits {found}")
        return NUMBERINGS[fitting[0]]
    if not fitting and len([v for v in named[next(iter(named))].values() if v in places]) >= 2:
        raise _refusal(f"its vertebrae don't follow each other as {next(iter(named))} numbers them")
    # Read as version 2, the thoracic spine of version 1 is a lumbar one: longer runs tell.
    if numbering in ("totalsegmentator", "totalsegmentator_v3"):
        other = run_length(NUMBERINGS["totalsegmentator_v1"], places)
        if other > lengths[numbering]:
            raise _refusal(f"it fits totalsegmentator_v1 better than {numbering}")
    return next(iter(named.values()))


def middles(labels: sitk.Image) -> dict[int, np.ndarray]:
    """The middle (3,) of each label in LPS mm, without the background and tiny ones."""
    values = sitk.GetArrayViewFromImage(labels)
    found = np.argwhere(values > 0)
    numbers = np.rint(values[tuple(found.T)]).astype(int)
    counts = np.bincount(numbers)
    sums = [np.bincount(numbers, found[:, k].astype(float)) for k in (2, 1, 0)]
    matrix = affine(labels)
    least = LEAST_MM3 / abs(np.linalg.det(matrix[:3, :3]))
    return {
        int(k): matrix[:3, :3] @ np.array([s[k] for s in sums]) / counts[k] + matrix[:3, 3]
        for k in np.flatnonzero(counts)
        if counts[k] >= least
    }


def run_length(table: dict[str, int], places: dict[int, np.ndarray]) -> int:
    """Number of vertebrae in the longest run that go up the spine as the table says; 0 where two
    neighbours lie the wrong way round.
    """
    names = [name for name in ORDER if name in table and table[name] in places]
    longest = length = min(len(names), 1)
    for lower, upper in pairwise(names):
        step = places[table[upper]] - places[table[lower]]
        if not neighbours(lower, upper):
            length = 1
            continue
        far = SACRUM_MM if lower == "S1" else STEP_MM[1]
        straight = np.hypot(step[0], step[1]) <= ASIDE * np.linalg.norm(step)
        if step[2] < 0 or not STEP_MM[0] <= np.linalg.norm(step) <= far or not straight:
            return 0
        length += 1
        longest = max(longest, length)
    return longest


def neighbours(lower: str, upper: str) -> bool:
    """Whether one vertebra can follow the other, with or without those that not all people have."""
    between = ORDER[ORDER.index(lower) + 1 : ORDER.index(upper)]
    return set(between) <= set(EXTRA)


def _best(fitting: list[str], lengths: dict[str, int], places: dict) -> list[str]:
    """Those of the fitting tables with the longest run; one where tables agree on all values."""
    longest = max((lengths[name] for name in fitting), default=0)
    best = [name for name in fitting if lengths[name] == longest]
    seen = [{k: v for k, v in NUMBERINGS[name].items() if v in places} for name in best]
    return best[:1] if best and all(table == seen[0] for table in seen) else best


def _refusal(message: str) -> Refusal:
    return Refusal(
        "BAD_NUMBERING",
        f"the subject's label map (`locate.file`): {message}",
        "name the tool that made it, or give a table such as `{S1: 26, L5: 27}`, under "
        "`locate.numbering`",
    )
