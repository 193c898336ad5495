"""Which series of a subject is an image: the rule of preference, and its reasons in words.

The rule, in this order: what is no fragment of a longer series; original before reformatted; what
shows anatomy by itself before maps, spectral and angiographic images; without contrast medium
before with; without fat saturation before with; a soft kernel before a neutral one before a sharp
one; what covers enough of the longest; the thinnest that is not below a noise floor; most slices;
the series' pseudonym. "The longest series" is not the rule.
"""

from dataclasses import dataclass

from mrsynth.kernels import NEUTRAL, SHARP, SOFT, sharpness

FRAGMENT = 0.125
"""A series that covers less of the longest is a planning or monitoring scan. A lumbar CT of 25 cm
beside a whole body of 180 cm covers more."""

UNFIT = frozenset({"map", "phase", "spectral", "angiography", "dixon_fat", "dixon_in", "dixon_out"})
UNFIT |= {"t2_star", "steady_state", "intervention", "arthro", "no_spine"}
"""Notes of `index` on series that are an image by their keys and yet hardly meant."""

DIGITS = 4
"""Lengths are compared as the series table prints them."""

GRID = ["modality", "frame", "plane", "rows", "columns", "slices", "stacks", "pixel_mm"]
GRID += ["spacing_mm", "thickness_mm", "extent_mm", "start_mm"]
"""Columns that two series of one grid share: same frame of reference, same slices' places."""
SETTINGS = ["kind", "kernel", "contrast", "fatsat", "tr_ms", "te_ms", "ti_ms", "kvp"]
"""Columns that two reconstructions or two weightings of one grid differ in."""

KERNEL_WORDS = {SOFT: "soft kernel", NEUTRAL: "neutral kernel", SHARP: "sharp kernel"}


@dataclass(frozen=True)
class Candidate:
    """A series that could be an image.

    Attributes:
        row: Its row of the series table.
        grade: 0, or more for what is taken only where nothing else is, however near in time.
        reason: Why it stands where it stands, in words.
    """

    row: dict
    grade: int
    reason: str


@dataclass(frozen=True)
class Barred:
    """A series that would be an image but for a setting.

    Attributes:
        row: Its row of the series table.
        code: ``TOO_THICK`` or ``SPOILED``.
        reason: In words.
    """

    row: dict
    code: str
    reason: str


def find(
    own: list[dict],
    name: str,
    image: dict,
    *,
    coverage: float = 0.8,
    ct_min_spacing_mm: float = 0.6,
    ct_max_spacing_mm: float | None = None,
    mr_max_spacing_mm: float | None = None,
    exclude_notes: list[str] = (),
) -> tuple[list[Candidate], list[Barred]]:
    """Series of one subject that are an image, best first, and those that a setting bars.

    Args:
        own: The subject's rows of the series table.
        name: The image's name.
        image: Its keys; one that is null accepts anything.
        coverage: Share of the longest candidate's extent below which a series comes later.
        ct_min_spacing_mm: CT with a smaller step between slices comes after the others: its noise.
        ct_max_spacing_mm, mr_max_spacing_mm: Largest step between slices; None is no limit.
        exclude_notes: Words, or ``image:word``, of :func:`notes` that bar a series.
    """
    limits = {"CT": ct_max_spacing_mm, "MR": mr_max_spacing_mm}
    rows, barred = [], []
    for row in own:
        if row["status"] != "used" or not matches(row, image):
            continue
        limit, step = limits.get(row["modality"]), _float(row["spacing_mm"])
        bad = sorted(word for word in notes(row, image) if _excluded(word, name, exclude_notes))
        code, reason = "", ""
        if bad:
            code, reason = "SPOILED", ", ".join(bad)
        elif limit is not None and step > limit:
            code = "TOO_THICK"
            reason = f"{step:g} mm between slices, at most {limit:g} mm allowed"
        if code:
            barred.append(Barred(row, code, reason))
        else:
            rows.append(row)
    barred.sort(key=lambda one: one.row["series"])
    return rank(rows, coverage=coverage, ct_min_spacing_mm=ct_min_spacing_mm), barred


def rank(
    rows: list[dict], *, coverage: float = 0.8, ct_min_spacing_mm: float = 0.6
) -> list[Candidate]:
    """Rows of the series table in the order of preference, each with its deciding reason."""
    longest = max((_float(row["extent_mm"]) for row in rows), default=0.0)
    judged = [(_criteria(row, longest, coverage, ct_min_spacing_mm), row) for row in rows]
    judged.sort(key=lambda pair: ([key for key, _ in pair[0]], pair[1]["series"]))
    found = []
    for place, (criteria, row) in enumerate(judged):
        other = judged[1 if place == 0 else 0][0] if len(judged) > 1 else None
        reason = _reason(criteria, other) if other else "the only candidate"
        found.append(Candidate(row, int(2 * criteria[0][0] + criteria[1][0]), reason))
    return found


def _criteria(row: dict, longest: float, coverage: float, floor_mm: float) -> list[tuple]:
    """Keys (less is better) with words, in the order in which they decide."""
    extent, step = _float(row["extent_mm"]), _float(row["spacing_mm"])
    share = extent / longest if longest else 1.0
    covers = f"covers {share:.0%} of the longest"
    unfit = sorted(_words(row) & UNFIT)
    medium = row["contrast"] == "yes" or "myelo" in _words(row)
    kernel = sharpness(row["kernel"]) if row["modality"] == "CT" else NEUTRAL
    below = round(max(floor_mm - step, 0.0), DIGITS) if row["modality"] == "CT" else 0.0
    noisy = f"{step:g} mm between slices, below the noise floor of {floor_mm:g} mm"
    return [
        (share < FRAGMENT, f"a fragment: {covers}"),
        (row["kind"] != "original", "original" if row["kind"] == "original" else "reformat"),
        (bool(unfit), ", ".join(unfit) or "plain"),
        (medium, "contrast medium" if medium else "no contrast medium"),
        (row["fatsat"] == "yes", "fat saturated" if row["fatsat"] == "yes" else "no saturation"),
        (kernel, KERNEL_WORDS[kernel] + (f" {row['kernel']}" if row["kernel"] else "")),
        (share < coverage, covers),
        (below, noisy if below else f"{step:g} mm between slices"),
        (step, f"{step:g} mm between slices"),
        (-_float(row["slices"]), f"{row['slices']} slices"),
    ]


def _reason(own: list[tuple], other: list[tuple]) -> str:
    """The words of the first criterion in which two candidates differ."""
    for (key, words), (rival, _) in zip(own, other, strict=True):
        if key != rival:
            return words
    return "no difference; by its name"


def refused(own: list[dict], image: dict, series: str = "") -> dict | None:
    """A refused series that would have been the image; keys that it lacks count as met."""
    for row in sorted(own, key=lambda row: row["series"]):
        if row["status"] != "refused":
            continue
        if row["series"] == series or (not series and matches(row, image, strict=False)):
            return row
    return None


def matches(row: dict, image: dict, strict: bool = True) -> bool:
    """Whether a series has every key that an image sets."""
    for name, value in image.items():
        cell = row.get(name, "")
        if value is None or cell == str(value):
            continue
        if isinstance(value, bool) and (cell == "yes") == value:
            continue
        if strict or cell or name == "modality":
            return False
    return True


def notes(row: dict, image: dict | None = None) -> set[str]:
    """What may spoil a pair, in closed words; what the image asks for spoils nothing."""
    words = _words(row) | {name for name in ("contrast", "fatsat") if row.get(name) == "yes"}
    return words - {name for name, value in (image or {}).items() if value is True}


def twins(rows: list[dict]) -> dict[str, str]:
    """Series on the same grid with the same settings: copies of one export, or a repeated scan.

    Returns:
        Series → the first of its kind by name; those that stand alone or first are left out.
    """
    first: dict[tuple, str] = {}
    found = {}
    for row in sorted(rows, key=lambda row: row["series"]):
        if row["status"] != "used" or not row["frame"]:
            continue
        key = tuple(row.get(name, "") for name in GRID + SETTINGS)
        if first.setdefault(key, row["series"]) != row["series"]:
            found[row["series"]] = first[key]
    return found


def _excluded(word: str, image: str, exclude: list[str]) -> bool:
    return word in exclude or f"{image}:{word}" in exclude


def _words(row: dict) -> set[str]:
    return set(filter(None, row.get("notes", "").split(",")))


def _float(text: str) -> float:
    return float(text) if text else 0.0
