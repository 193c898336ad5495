"""What a header describes: weighting, kind, fat suppression, and names fit to be shown.

Parameters outrank descriptions, since a description is typed by hand. Header texts never leave
this module: vendors, scanners and kernels come out as known names or as keyed hashes.
"""

import re
from collections.abc import Mapping

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
    ("T1", r"(?<![a-z0-9])t1w?[ _-]{0,2}(dark[ _-]?fluid|flair)"),
    ("FLAIR", r"flair|dark[ _-]?fluid"),
    ("TIRM", r"(?<![a-z])tirm"),
    ("STIR", r"(?<![a-z])stir(?![a-z])"),
    ("PD", r"(?<![a-z])pdw?(?![a-z])|proton[ _-]?dens|(?<![a-z])dens"),
    ("T2", r"(?<![a-z0-9])t2(?![0-9*]|[ _-]?star)"),
    ("T1", r"(?<![a-z0-9])t1(?![0-9])"),
)
"""The first pattern that a description fulfils names the weighting."""
ACQUISITION_CONTRASTS = {
    "T1": "T1",
    "T2": "T2",
    "PROTON_DENSITY": "PD",
    "STIR": "STIR",
    "FLUID_ATTENUATED": "FLAIR",
}
"""Acquisition Contrast of enhanced MR (PS3.3 C.8.13.3.1.1); its other terms are none of ours."""
LOCALIZER_WORDS = re.compile(
    r"localizer|localiser|lokalizer|scout|survey|topogram|surview|scanogra|scanosc"
    r"|3[- ]?plane|(?<![a-z])(loc|pilot)(?![a-z])"
)
SCREEN_WORDS = re.compile(
    r"SCREEN|CAPTURE|DOSE|REPORT|PASTED|(^|[ _])PROT(OCOL)?( |$)"
    r"|(^| )(GRAPH|TEXT|KEY_?IMAGES?)( |$)"
)
"""Pictures of text that some scanners store as CT or MR images: dose sheets, patient protocols."""
PROJECTION_WORDS = re.compile(
    r"PROJECTION|(^|[ _])(MIP|MINIP|MNIP|MIN_IP|MAX_IP|VRT|VR|SSD|MPVR|VOLUME_RENDER)( |$)"
)
REFORMATS = {"MPR", "REFORMATTED", "CPR", "CURVED_MPR", "RESAMPLED", "CSAMANIPULATED"}
COMPUTED_WORDS = re.compile(
    r"(^|[ _])(ADC|EADC|FA|TRACEW|[TR][12](\*|_STAR)?[ _]?MAP|MAP)( |$)|SUBTRACT"
)
"""Image types of maps and differences: no image of an acquired contrast."""
NO_VOLUMES = ("localizer", "projection", "screen")
"""Kinds that are skipped; they need no geometry and no units."""
PHASE_WORDS = {"P", "I", "PHASE", "IMAGINARY", "PHASE MAP", "P_FFE", "I_FFE", "P_SE", "I_SE"}
PHASE_WORDS |= {"P_IR", "I_IR"}
REAL_WORDS = {"R", "REAL", "R_FFE", "R_SE", "R_IR"}
"""Image types of other parts of a complex image than its magnitude; Philips adds the sequence. The
real part after an inversion is an image of its own, and the usual one of Philips' STIR."""
FAT_WORDS = re.compile(
    r"(?<![a-z])(fs|fat[ _-]?sat|fat[ _-]?sup\w*|spair|spir|chemsat|water[ _-]?ex\w*"
    r"|dixon.?w|water)(?![a-z])"
)
DIXON_WORDS = (
    ("dixon_water", {"W", "WATER"}, r"(?<![a-z])(water|w)(?![a-z])"),
    ("dixon_fat", {"F", "FAT"}, r"(?<![a-z])(fat|f)(?![a-z])"),
    ("dixon_in", {"IP", "IN_PHASE", "IN"}, r"in[ _-]?phase|(?<![a-z])(ip|in)(?![a-z])"),
    (
        "dixon_out",
        {"OP", "OPP_PHASE", "OUT_PHASE", "OUT"},
        r"(opp|out|opposed)[ _-]?(of)?[ _-]?phase|(?<![a-z])(op|opp|out)(?![a-z])",
    ),
)
"""Images of a Dixon acquisition: note, image types, and words that count beside "dixon"."""
DIXON = re.compile(r"dixon|(?<![a-z])(ideal|flex|mdixon|lava)(?![a-z])")
WITHOUT_WORDS = re.compile(
    r"\b(none|no|non|nil|not|without|w/?o|native?|nativ|plain|unenhanced|ohne|sans|sin|pre)\b"
    r"|\A\s*(0+([.,]0+)?|-+)\s*(ml)?\s*\Z"
)
"""Words by which an agent's element says that there was none; a zero or a dash only if it stands
alone, since agents' names and doses have both (Gd-DTPA, Isovue-370, 0.1 mmol/kg)."""
AGENT_WORDS = re.compile(
    r"(?<![a-z])(gd|gad|gado\w*|dotarem|dota|magnevist|multihance|prohance|omniscan|km|cm|ce"
    r"|contrast|kontrast\w*|enhanced|iv|c\+|\+ ?(c|gd|km|k|contrast)|postcontrast|postgad\w*"
    r"|post(?![ .-]{0,3}(op(?![a-z])|opera|surg|trauma|interv|biops|lamin|fusion|radi|chemo)))"
    r"(?![a-z])"
)
"""Words by which a description says that there was an agent; a spine is also post-operative."""
NEGATED = re.compile(
    r"\b(no|non|without|w/?o|ohne|sans|sin|pre|before|vor)[ _.-]{0,2}"
    r"(gd|gad\w*|km|cm|ce|iv|contrast|kontrast\w*)\b|unenhanced|\bnativ?e?\b|\bc-(?![a-z0-9])"
)

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
    "Artist",
    "Avanto",
    "BrightSpeed",
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
    "Naeotom",
    "Optima",
    "Orian",
    "Panorama",
    "Pioneer",
    "Prisma",
    "Prodiva",
    "Revolution",
    "Sempra",
    "Sensation",
    "Skyra",
    "Sola",
    "Spectra",
    "Symphony",
    "Titan",
    "Trio",
    "Verio",
    "Vida",
    "Discovery",
    "Magnetom",
    "Somatom",
    "Signa",
    "Biograph",
    "Brilliance",
    "Phantom",
    "Spiral",
    "Vantage",
    "Aquilion",
]
"""Models; the names of whole families come last, so that the model wins."""
KERNEL = re.compile(
    r"[A-Z]{1,2}\d{1,2}[A-Za-z]?(\\\d)?"
    r"|STANDARD|SOFT|CHST|BONE(PLUS)?|LUNG|DETAIL|EDGE|FC\d\d(-H)?|Y?[ABCDEL]"
)
"""Kernels as vendors name them: letters and two digits, or one of a few words."""


def weighting(values: Mapping) -> str:
    """T1, T2, PD, STIR, TIRM, FLAIR or empty.

    The rule, in this order:

    1. Diffusion and echo-planar images, maps, differences, phases and fat-only images: empty.
    2. Inversion recovery (sequence ``IR``, or an inversion time that no fat saturation explains):
       with a gradient echo T1 (MP-RAGE); TI up to 350 ms STIR or TIRM; TI from 1500 ms FLAIR;
       between them T1 (T1-FLAIR).
    3. Spin echo: T2 if TE ≥ 60 ms and TR ≥ 1000 ms; PD if TR ≥ 1500 ms and TE ≤ 45 ms; T1 if
       TR < 1500 ms and TE ≤ 45 ms.
    4. Spoiled gradient echo: T1 if TE < 10 ms and flip angle ≥ 8°.
    5. Otherwise Acquisition Contrast, then the description's words. A gradient echo is never T2:
       its late echo weights by T2*.

    STIR and TIRM are both inversion recovery with a short TI; TIRM is a vendor's name for a turbo
    readout with magnitude reconstruction. The description decides; if it names neither, a sequence
    called ``tir…`` or a Siemens turbo readout (echo train above 1) is TIRM, the rest STIR.

    Args:
        values: A slice's header values (see :mod:`mrsynth.headers`), times in ms.
    """
    if values["Modality"] != "MR":
        return ""
    words = description(values)
    sequence = set(values["ScanningSequence"])
    if "EP" in sequence or values["DiffusionBValue"] or computed(values) or phase(values):
        return ""
    if dixon(values) == "dixon_fat":
        return ""
    repetition, echo = values["RepetitionTime"], values["EchoTime"]
    inversion = values["InversionTime"] or 0
    # Philips fills in the delay of its spectral fat inversion (SPIR, SPAIR), which is no STIR.
    spectral = sequence and "IR" not in sequence and fat_suppressed(values)
    if "IR" in sequence or (inversion > 0 and not spectral):
        return _inverted(values, words, sequence, inversion)
    if "SE" in sequence and repetition and echo is not None:
        if echo >= LATE_TE_MS and repetition >= 1000:
            return "T2"
        if echo <= EARLY_TE_MS:
            return "T1" if repetition < LONG_TR_MS else "PD"
    spoiled = "GR" in sequence and not {"SS"} & set(values["SequenceVariant"])
    early = echo is not None and echo < STEADY_T1_TE_MS
    if spoiled and early and (values["FlipAngle"] or 0) >= STEADY_T1_FLIP_DEG:
        return "T1"
    named = ACQUISITION_CONTRASTS.get(values["AcquisitionContrast"], "") or _named(words)
    return "" if named == "T2" and "GR" in sequence and "SE" not in sequence else named


def _inverted(values: Mapping, words: str, sequence: set[str], inversion: float) -> str:
    if not inversion:
        return ACQUISITION_CONTRASTS.get(values["AcquisitionContrast"], "") or _named(words)
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


def description(values: Mapping) -> str:
    """Lower-case text that people gave the series; for rules only, never shown."""
    names = ("SeriesDescription", "ProtocolName", "SequenceName")
    return " ".join(values[name] for name in names).lower()


def kind(values: Mapping) -> str:
    """What sort of image (PS3.3 C.7.6.1.1.2).

    Returns:
        ``localizer``, ``screen`` (a picture of text), ``projection``, ``derived`` or ``original``.
    """
    image_type = values["ImageType"]
    text = " ".join(image_type)
    technique = values["VolumeBasedCalculationTechnique"].replace("NONE", "")
    if re.search("LOCALIZER|SCOUT|SCANO", text) or LOCALIZER_WORDS.search(
        values["SeriesDescription"].lower()
    ):
        return "localizer"
    if SCREEN_WORDS.search(text):
        return "screen"
    if PROJECTION_WORDS.search(text) or PROJECTION_WORDS.search(technique):
        return "projection"
    if "DERIVED" in image_type[:1] or REFORMATS & {*image_type, technique} or computed(values):
        return "derived"
    return "original"


def computed(values: Mapping) -> bool:
    """Whether an image is a map (ADC, T2 map …) or a difference of images."""
    return bool(COMPUTED_WORDS.search(" ".join(values["ImageType"])))


def phase(values: Mapping) -> bool:
    """Whether an MR image is the phase, the real or the imaginary part, not the magnitude."""
    if values["Modality"] != "MR":
        return False
    component = values["ComplexImageComponent"].upper()
    words = {component} if component else set(values["ImageType"][2:])
    inverted = {"IR", "R_IR"} & {*values["ScanningSequence"], *words}
    return bool(PHASE_WORDS & words or (REAL_WORDS & words and not inverted))


def dixon(values: Mapping) -> str:
    """``dixon_water``, ``dixon_fat``, ``dixon_in``, ``dixon_out`` or empty."""
    if values["Modality"] != "MR":
        return ""
    image_type, words = set(values["ImageType"][2:]), values["SeriesDescription"].lower()
    for name, types, _ in DIXON_WORDS:
        if types & image_type:
            return name
    if not DIXON.search(description(values)) and ":" not in words[:12]:
        return ""
    # GE begins the description with the part and a colon; the others write it after "dixon".
    return next((name for name, _, pattern in DIXON_WORDS if re.search(pattern, words)), "")


def fat_suppressed(values: Mapping) -> bool:
    """Whether fat is suppressed by saturation or water excitation (not by inversion)."""
    if dixon(values) == "dixon_water":
        return True
    return "FS" in values["ScanOptions"] or bool(FAT_WORDS.search(description(values)))


def medium(values: Mapping) -> str:
    """Whether contrast medium was given: ``yes``, ``no``, or empty where the header is silent.

    The elements of the agent (PS3.3 C.7.6.4) come first; some scanners write NONE there. Then the
    descriptions count.
    """
    agent = values["ContrastBolusAgent"].lower()
    if agent and not WITHOUT_WORDS.search(agent):
        return "yes"
    if (values["ContrastBolusVolume"] or 0) > 0:
        return "yes"
    words = description(values).replace("_", " ")
    if NEGATED.search(words):
        return "no"
    if AGENT_WORDS.search(words):
        return "yes"
    return "no" if agent else ""


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
