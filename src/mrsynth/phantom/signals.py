"""What a tissue measures: Hounsfield units, and MR signal by the sequence's equation."""

from dataclasses import dataclass

import numpy as np

from mrsynth.phantom.anatomy import Anatomy
from mrsynth.phantom.shapes import TISSUES

# Mean and deviation of the texture, HU at 120 kVp. Spongiosa's mean falls with age (see anatomy).
HU = {
    "air": (-1000, 0),
    "skin": (35, 10),
    "fat": (-102, 7),
    "muscle": (54, 7),
    "cortical": (780, 90),
    "spongiosa": (180, 36),
    "annulus": (98, 7),
    "ligament": (68, 6),
    "csf": (12, 0),
    "nerve": (38, 0),
    "blood": (45, 0),
    "kidney": (34, 4),
    "liver": (60, 5),
    "bowel": (32, 14),
    "gas": (-940, 0),
    "nucleus-1": (74, 4),
    "nucleus-2": (78, 4),
    "nucleus-3": (82, 5),
    "nucleus-4": (86, 6),
    "nucleus-5": (90, 7),
}
# Proton density (water = 1), T1 at 1.5 T, T1 at 3 T, T2 (ms), relative deviation of the texture.
# Orders of magnitude as in Stanisz et al. 2005 and de Bazelaire et al. 2004; T2 of fat and muscle
# is the apparent one of a fast spin echo; vessels hold little because of flow.
RELAXATION = {
    "air": (0.0, 1000, 1000, 50, 0),
    "skin": (0.55, 600, 700, 40, 0.08),
    "fat": (0.90, 245, 320, 150, 0.04),
    "muscle": (0.80, 1000, 1400, 56, 0.10),
    "cortical": (0.05, 500, 600, 20, 0.10),
    "spongiosa": (0.62, 550, 620, 95, 0.10),
    "annulus": (0.60, 850, 950, 52, 0.08),
    "ligament": (0.45, 850, 950, 38, 0.06),
    "csf": (1.0, 4000, 4000, 1400, 0),
    "nerve": (0.78, 900, 1050, 85, 0),
    "blood": (0.10, 1400, 1650, 120, 0),
    "kidney": (0.85, 950, 1150, 85, 0.10),
    "liver": (0.75, 580, 800, 48, 0.06),
    "bowel": (0.80, 1000, 1200, 75, 0.15),
    "gas": (0.0, 1000, 1000, 50, 0),
    "nucleus-1": (0.95, 1250, 1400, 185, 0.05),
    "nucleus-2": (0.92, 1200, 1350, 145, 0.06),
    "nucleus-3": (0.85, 1100, 1250, 100, 0.08),
    "nucleus-4": (0.75, 950, 1100, 68, 0.10),
    "nucleus-5": (0.60, 850, 1000, 50, 0.12),
}
# Proton density, T1, T2 (ms) inside a lesion of each kind; its HU are its host's.
LESIONS = {"oedema": (0.88, 1200, 150), "fissure": (0.92, 1600, 260), "cyst": (1.0, 3000, 900)}


@dataclass(frozen=True)
class Sequence:
    """TR, TE, TI in ms (``ti`` 0: spin echo); echo train length; names for the header."""

    tr: float
    te: float
    ti: float
    echoes: int
    description: str


# Typical clinical protocols; TI nearly nulls fat at 1.5 T (T1·ln 2) and is scaled at 3 T.
SEQUENCES = {
    "t2ax": Sequence(3800, 100, 0, 17, "t2_tse_tra"),
    "t2sag": Sequence(3500, 105, 0, 17, "t2_tse_sag"),
    "t1sag": Sequence(560, 11, 0, 3, "t1_tse_sag"),
    "stir": Sequence(4500, 48, 160, 9, "STIR_sag"),
    "tirm": Sequence(4200, 62, 165, 11, "t2_tirm_sag"),
    "localizer": Sequence(900, 90, 0, 96, "localizer"),
}


def inversion_time(sequence: Sequence, field_t: float) -> float:
    """TI in ms, longer at 3 T because fat's T1 is."""
    fat = RELAXATION["fat"]
    return round(sequence.ti * (fat[2] / fat[1] if field_t > 2 else 1.0))


def signal(pd, t1, t2, sequence: Sequence, field_t: float = 1.5):
    """Magnitude of the transverse magnetisation (units of water's proton density).

    Spin echo: PD·(1 − 2·e^(−(TR − TE/2)/T1) + e^(−TR/T1))·e^(−TE/T2); inversion recovery puts
    −2·e^(−TI/T1) + 2·e^(−(TR − TE/2)/T1) − e^(−TR/T1) in the bracket (Bernstein, King, Zhou:
    Handbook of MRI Pulse Sequences, 2004, chapters 14.1 and 14.3). Times in ms.
    """
    half, whole = np.exp(-(sequence.tr - sequence.te / 2) / t1), np.exp(-sequence.tr / t1)
    if sequence.ti:
        bracket = 1 - 2 * np.exp(-inversion_time(sequence, field_t) / t1) + 2 * half - whole
    else:
        bracket = 1 - 2 * half + whole
    return np.abs(pd * bracket * np.exp(-sequence.te / t2))


def hounsfield(anatomy: Anatomy, tissue, texture) -> np.ndarray:
    """HU (float32) of labels and textures."""
    mean = np.array([HU[name][0] for name in TISSUES], np.float32)
    mean[TISSUES.index("spongiosa")] = anatomy.soft["marrow_hu"]
    swing = np.array([HU[name][1] for name in TISSUES], np.float32)
    return mean[tissue] + swing[tissue] * texture


def magnetisation(sequence: Sequence, field_t: float, tissue, texture) -> np.ndarray:
    """MR signal (float32, water's proton density = 1) of labels and textures, without lesions."""
    column = 2 if field_t > 2 else 1
    table = [RELAXATION[name] for name in TISSUES]
    mean = [signal(row[0], row[column], row[3], sequence, field_t) for row in table]
    swing = np.array([row[4] for row in table], np.float32)
    return np.array(mean, np.float32)[tissue] * (1 + swing[tissue] * texture)
