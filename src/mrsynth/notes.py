"""What spoils a series for training, as far as its header says so: closed words, never free text.

A header can say that contrast medium was in the sac or that metal was expected. That it says
nothing proves nothing: the words are warnings, and `cohort` decides what they mean.
"""

import re
from collections.abc import Mapping

from mrsynth import contrast

MYELO = re.compile(r"myelo(?!m|n|p|f|b|i|d|l)|(?<![a-z])intrathecal")
"""Myelography, not myeloma, myelon, myelopathy, myelofibrosis, myelitis or a myeloid disease."""
ARTHRO = re.compile(r"arthrogra|arthro[ _-]?(ct|mr)|(ct|mr)[ _-]?arthro")
METAL_REDUCTION = re.compile(
    r"(?<![a-z])(i?mar|o[ _-]?mar|smart[ _-]?mar|semar|semac|mavric|warp|(ms)?vat"
    r"|metal[ _-]?art\w*)(?![a-z])"
)
"""Reconstructions and sequences against metal artefacts: iMAR, O-MAR, Smart MAR, SEMAR, SEMAC,
MAVRIC, VAT, WARP."""
METAL = re.compile(
    r"metal|implant|prothes|prosthe|(?<![a-z])(screws?|schrauben?|hardware|spondylodes\w*|cages?"
    r"|tep|rods)(?![a-z])"
)
INTERVENTION = re.compile(r"biops|puncture|punktion|drainage|infiltrat|intervention|guided")
SPECTRAL = re.compile(
    r"(?<![a-z])(vnc|virtual|iodine|jod|z[ _-]?eff|electron[ _-]?dens\w*|calcium[ _-]?sup\w*)"
    r"(?![a-z])|mono[ _-]?(e(?![a-z])|energ|\+)|\d ?kev"
)
"""Values of a dual-energy CT that are computed and no plain HU at one tube voltage."""
ANGIOGRAPHY = re.compile(r"(?<![a-z])(tof|angio\w*|cta|mra|ctangio)(?![a-z])")
T2_STAR = re.compile(r"t2[ _-]?(\*|star)|(?<![a-z])(medic|merge|m[ _-]?ffe|swi|swan)(?![a-z])")

BODY_PARTS = (
    ("lspine", r"\bL[ _-]?SPINE|LUMB|LWS|SACR"),
    ("cspine", r"\bC[ _-]?SPINE|CERVICAL|HWS"),
    ("tspine", r"\bT[ _-]?SPINE|THORACIC SPINE|DORSAL|BWS"),
    ("spine", r"SPINE|VERTEBR|COLUMN|WIRBEL"),
    ("whole_body", r"WHOLE|TOTAL"),
    ("head", r"HEAD|BRAIN|SKULL|FACE|SINUS|ORBIT|JAW|MANDIB|MAXIL|\bEAR|KOPF"),
    ("neck", r"NECK|CAROTID|THYROID"),
    ("chest", r"CHEST|THORAX|LUNG"),
    ("abdomen", r"ABD|LIVER|KIDNEY|PANCREAS"),
    ("pelvis", r"PELVI|HIP|PROSTATE|BLADDER|BECKEN"),
    ("heart", r"HEART|CARDI|CORONARY"),
    ("breast", r"BREAST|MAMM"),
    ("limb", r"KNEE|LEG|FOOT|ANKLE|ARM|HAND|WRIST|ELBOW|SHOULDER|EXTREM|FEMUR|THIGH|CALF|FINGER"),
)
"""Body part → what BodyPartExamined calls it (PS3.16 annex L, and free words)."""
WITHOUT_SPINE = ("head", "heart", "breast", "limb")
"""Body parts whose field of view hardly ever holds the lumbar spine."""

NOTES = (
    "myelo",
    "arthro",
    "metal",
    "metal_reduction",
    "intervention",
    "angiography",
    "spectral",
    "map",
    "phase",
    "dixon_water",
    "dixon_fat",
    "dixon_in",
    "dixon_out",
    "t2_star",
    "steady_state",
    "no_spine",
    "id_shared",
)
"""All words that the column ``notes`` can hold, in its order."""


def notes(values: Mapping) -> list[str]:
    """Words for what a slice's header says that spoils its series, in the order of ``NOTES``."""
    texts = ("StudyDescription", "DerivationDescription", "ContrastBolusRoute", "ConvolutionKernel")
    words = contrast.description(values).replace("_", " ")
    more = " ".join(values[name] for name in texts).lower().replace("_", " ")
    both = f"{words} {more}"
    types = " ".join(values["ImageType"]).lower()
    mr = values["Modality"] == "MR"
    sequence = values["ScanningSequence"]
    steady = "SS" in values["SequenceVariant"] and "GR" in sequence and "EP" not in sequence
    found = {
        "myelo": MYELO.search(both),
        "arthro": ARTHRO.search(both),
        "metal": METAL.search(METAL_REDUCTION.sub(" ", both)),
        "metal_reduction": METAL_REDUCTION.search(both),
        "intervention": INTERVENTION.search(both),
        "angiography": ANGIOGRAPHY.search(words),
        "spectral": not mr and SPECTRAL.search(f"{words} {types}"),
        "map": contrast.computed(values),
        "phase": contrast.phase(values),
        contrast.dixon(values): mr,
        "t2_star": mr and T2_STAR.search(words),
        "steady_state": mr and steady,
        "no_spine": body_part(values) in WITHOUT_SPINE,
    }
    return [word for word in NOTES if found.get(word)]


def body_part(values: Mapping) -> str:
    """Where the scan was made by BodyPartExamined: a closed word, or empty if that says nothing."""
    text = values["BodyPartExamined"].upper()
    return next((name for name, pattern in BODY_PARTS if re.search(pattern, text)), "")
