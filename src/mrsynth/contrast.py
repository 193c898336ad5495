"""What a header describes: weighting, kind, fat suppression, and names fit to be shown.

Parameters outrank descriptions, since a description is typed by hand. Header texts never leave
this module:
vendors, scanners and kernels come out as known names or as keyed hashes.
"""

import re

from mrsynth.pseudonym import pseudonym

SHORT_TI_MS = 350.0
"""Inversion times below null fat (about 130–180 ms at 1.5 T, 180–230 ms at 3 T): STIR and TIRM."""
FLUID_TI_MS = 1500.0
"""Inversion times above null fluid (about 1 700–2 500 ms): FLAIR."""
LONG_TR_MS = 1500.0
"""Spin echoes: shorter repetition weights by T1, unless the echo is late (3-D turbo spin echo)."""
LATE_TE_MS = 60.0
"""Spin echoes with a long repetition weight by T2 from here on …"""
EARLY_TE_MS = 45.0
"""… and by proton density up to here; between the two the description decides."""
STEADY_T1_TE_MS = 10.0
"""Spoiled gradient echoes with an earlier echo weight by T1 …"""
STEADY_T1_FLIP_DEG = 8.0
"""… if the flip angle is at least this."""

WORDS = (
    ("TIRM", r"tirm"),
    ("STIR", r"stir"),
    ("FLAIR", r"flair"),
    ("PD", r"(?<![a-z])pd(?![a-z])|proton|dens"),
    ("T2", r"(?<![a-z0-9])t2(?![0-9*]|[ _-]?star)"),
    ("T1", r"(?<![a-z0-9])t1(?![0-9])"),
)
LOCALIZER_WORDS = re.compile(
    r"localizer|localiser|scout|survey|topogram|surview|3[- ]?plane|(?<![a-z])loc(?![a-z])"
)
FAT_WORDS = re.compile(r"(?<![a-z])(fs|fatsat|fat.?sat|spair|spir|dixon.?w|water)(?![a-z])")

VENDORS = {
    "siemens": "Siemens",
    "ge med": "GE",
    "ge health": "GE",
    "philips": "Philips",
    "toshiba": "Canon",
    "canon": "Canon",
    "hitachi": "Fujifilm",
    "fuji": "Fujifilm",
    "united imaging": "United Imaging",
    "uih": "United Imaging",
    "neusoft": "Neusoft",
    "esaote": "Esaote",
    "synthetic imaging": "Synthetic Imaging",
}
SCANNERS = [
    "Achieva",
    "Aera",
    "Altea",
    "Amira",
    "Aquilion",
    "Artist",
    "Avanto",
    "Biograph",
    "Brilliance",
    "BrightSpeed",
    "Discovery",
    "Echo",
    "Elition",
    "Emotion",
    "Espree",
    "Essenza",
    "Force",
    "Free.Max",
    "Galan",
    "Gyroscan",
    "Harmony",
    "iCT",
    "IQon",
    "Incisive",
    "Ingenia",
    "Intera",
    "LightSpeed",
    "Lumina",
    "mCT",
    "Magnetom",
    "Naeotom",
    "Optima",
    "Orian",
    "Panorama",
    "Phantom",
    "Pioneer",
    "Prisma",
    "Prodiva",
    "Revolution",
    "Sempra",
    "Sensation",
    "Signa",
    "Skyra",
    "Sola",
    "Somatom",
    "Spectra",
    "Spiral",
    "Symphony",
    "Titan",
    "Trio",
    "Vantage",
    "Verio",
    "Vida",
]
KERNEL = re.compile(
    r"[A-Z]{1,2}\d{1,2}[A-Za-z]?(\\\d)?"
    r"|STANDARD|SOFT|BONE(PLUS)?|LUNG|DETAIL|EDGE|FC\d\d|Y?[ABCDEL]"
)
"""Kernels as vendors name them: letters and two digits, or one of a few words."""


def weighting(values: dict) -> str:
    """T1, T2, PD, STIR, TIRM, FLAIR or empty.

    The rule, in this order:

    1. Diffusion and echo-planar images: empty.
    2. Inversion recovery (sequence ``IR`` or an inversion time): with a gradient echo T1
    (MP-RAGE); TI up to
       350 ms STIR or TIRM; TI from 1500 ms FLAIR; between them T1 (T1-FLAIR).
    3. Spin echo: T2 if TE ≥ 60 ms and TR ≥ 1000 ms; PD if TR ≥ 1500 ms and TE ≤ 45 ms; T1 if TR <
    1500 ms and
       TE ≤ 45 ms.
    4. Spoiled gradient echo: T1 if TE < 10 ms and flip angle ≥ 8°.
    5. Otherwise the description's words.

    STIR and TIRM are both inversion recovery with a short TI; TIRM is a vendor's name for a turbo
    readout with
    magnitude reconstruction. The description decides; if it names neither, a sequence called
    ``tir…`` or a
    Siemens turbo readout (echo train above 1) is TIRM, the rest STIR.

    Args:
        values: A slice's header values (see :mod:`mrsynth.dicom`), times in ms.
    """
    if values["Modality"] != "MR":
        return ""
    words = description(values)
    sequence = set(values["ScanningSequence"])
    if "EP" in sequence or values["DiffusionBValue"]:
        return ""
    repetition, echo = values["RepetitionTime"], values["EchoTime"]
    inversion = values["InversionTime"] or 0
    if "IR" in sequence or inversion > 0:
        return _inverted(values, words, sequence, inversion)
    if "SE" in sequence and repetition and echo is not None:
        if echo >= LATE_TE_MS and repetition >= 1000:
            return "T2"
        if echo <= EARLY_TE_MS:
            return "T1" if repetition < LONG_TR_MS else "PD"
    spoiled = "GR" in sequence and not {"SS"} & set(values["SequenceVariant"])
    if spoiled and echo is not None and (values["FlipAngle"] or 0) >= STEADY_T1_FLIP_DEG:
        return "T1" if echo < STEADY_T1_TE_MS else _named(words)
    return _named(words)


def _inverted(values: dict, words: str, sequence: set[str], inversion: float) -> str:
    if not inversion:
        return _named(words)
    if "GR" in sequence:
        return "T1"
    if inversion >= FLUID_TI_MS:
        return "FLAIR"
    if inversion > SHORT_TI_MS:
        return "T1"
    if _named(words) in ("STIR", "TIRM"):
        return _named(words)
    turbo = "tir" in values["SequenceName"].lower()
    siemens = vendor(values["Manufacturer"]) == "Siemens" and (values["EchoTrainLength"] or 1) > 1
    return "TIRM" if turbo or siemens else "STIR"


def _named(words: str) -> str:
    return next((name for name, pattern in WORDS if re.search(pattern, words)), "")


def description(values: dict) -> str:
    """Lower-case text that people gave the series; for rules only, never shown."""
    names = ("SeriesDescription", "ProtocolName", "SequenceName")
    return " ".join(values[name] for name in names).lower()


def kind(values: dict) -> str:
    """``localizer``, ``projection``, ``derived`` or ``original`` (PS3.3 C.7.6.1.1.2)."""
    image_type = values["ImageType"]
    text = " ".join(image_type)
    if re.search("LOCALIZER|SCOUT", text) or LOCALIZER_WORDS.search(
        values["SeriesDescription"].lower()
    ):
        return "localizer"
    if re.search("PROJECTION|(^| )(MIP|MINIP)", text):
        return "projection"
    if "DERIVED" in image_type[:1] or {"MPR", "REFORMATTED", "ADC"} & set(image_type):
        return "derived"
    return "original"


def fat_suppressed(values: dict) -> bool:
    """Whether fat is suppressed by saturation or water excitation (not by inversion)."""
    return "FS" in values["ScanOptions"] or bool(FAT_WORDS.search(description(values)))


def vendor(text: str) -> str:
    """A known vendor's name, ``other``, or empty."""
    found = (name for word, name in VENDORS.items() if word in text.lower())
    return next(found, "GE" if text.strip().upper() == "GE" else "other" if text else "")


def scanner(text: str, key: bytes) -> str:
    """A known scanner's name, or a keyed hash of what the header says."""
    found = (name for name in SCANNERS if name.lower() in text.lower())
    return next(found, f"scn-{pseudonym(key, 'scanner', text)}" if text else "")


def kernel(text: str, key: bytes) -> str:
    """A CT kernel that looks like one, or a keyed hash."""
    if not text or KERNEL.fullmatch(text.upper()) or KERNEL.fullmatch(text):
        return text.split("\\")[0]
    return f"krn-{pseudonym(key, 'kernel', text)}"
