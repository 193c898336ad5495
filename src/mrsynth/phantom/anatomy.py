"""One subject's anatomy, drawn from a seed: a chain of rigid segments, soft tissue, lesions.

The *material frame* is LPS mm (x left, y posterior, z up) with the origin at the centre of L3.
Lengths and angles are textbook averages of the adult lumbar spine, varied per subject.
"""

from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import gaussian_filter

# From the sacrum upwards: name, half width a, half depth b, height (mm), wedge (deg).
VERTEBRAE = (
    ("L5", 26.5, 17.5, 27.0, 9.0),
    ("L4", 25.5, 17.3, 27.5, 3.0),
    ("L3", 24.5, 17.0, 28.0, 1.5),
    ("L2", 23.5, 16.5, 27.5, 0.0),
    ("L1", 22.5, 16.0, 26.5, -2.0),
    ("T12", 21.5, 15.5, 25.0, -3.0),
    ("T11", 20.5, 15.0, 23.5, -3.0),
)
# Discs upwards: level, height (mm), wedge (deg, open to the front).
DISCS = (
    ("L5-S1", 10.5, 13.0),
    ("L4-L5", 11.5, 10.0),
    ("L3-L4", 11.0, 7.0),
    ("L2-L3", 10.0, 5.0),
    ("L1-L2", 8.5, 4.0),
    ("T12-L1", 7.0, 2.0),
    ("T11-T12", 6.0, 1.0),
)
# Half width, half depth (mm) at the sacral endplate, at its lower end, and the curve between.
SACRUM = (26.0, 16.0)
SACRUM_END = (10.0, 6.5)
SACRUM_LENGTH_MM = 100.0
SACRUM_RADIUS_MM = 105.0  # of the arc along which the fused segments curve to the front
SACRUM_JOINTS_MM = (28.0, 53.0, 76.0)  # remnants of the discs along the arc
SACRAL_SLOPE_DEG = 38.0
# Distance from the back of a vertebral body to the canal's centre (mm).
CANAL_OFFSET_MM = 8.5
NOISE_SIZE = 64  # edge of the periodic noise tables; a power of two, so that wrapping is a bit mask
BOWEL_LOOPS = 60
LESION_KINDS = ("oedema", "fissure", "cyst")


@dataclass
class Bone:
    """A vertebra or sacral segment: pose (material frame) and size.

    Attributes:
        name: ``L5`` …, ``S1`` ….
        centre: Centre of the body, LPS mm.
        axes: 3×3, columns are the local left, posterior and up axes.
        a, b, height: Half width, half depth and height of the body, mm.
        wedge: Angle between the endplates, radians; positive when the front is taller.
        rib: Whether a lumbar vertebra bears a pair of short ribs.
    """

    name: str
    centre: np.ndarray
    axes: np.ndarray
    a: float
    b: float
    height: float
    wedge: float
    rib: bool = False


@dataclass
class Disc:
    """A disc: pose (its mid plane; column 2 of ``axes`` points up), size and degeneration.

    Attributes:
        grade: 1 (healthy) to 5 (collapsed), after Pfirrmann et al. 2001.
        bulge: How far the annulus stands out over the endplates, mm.
    """

    level: str
    centre: np.ndarray
    axes: np.ndarray
    a: float
    b: float
    height: float
    grade: int
    bulge: float


@dataclass
class Lesion:
    """A ball that only MR shows: centre (material, mm), radius (mm), host tissue's name, kind."""

    centre: np.ndarray
    radius: float
    tissue: str
    kind: str


@dataclass
class Anatomy:
    """Everything that :func:`mrsynth.phantom.shapes.label` needs to tell tissue at a point."""

    age: int
    sex: str
    scale: float
    bones: list[Bone]
    sacrum: list[Bone]
    endplate: Bone  # of the sacrum: where it starts
    discs: list[Disc]
    spine: np.ndarray  # [n, 3] centre line of bodies and discs, sorted by z
    canal: np.ndarray  # [n, 3] centre line of the canal, sorted by z
    soft: dict
    noise: dict = field(repr=False, default_factory=dict)
    lesions: list[Lesion] = field(default_factory=list)
    additions: list = field(default_factory=list)  # functions that paint more bone


def stream(seed: int, number: int, name: str) -> np.random.Generator:
    """An independent generator per purpose, so that one setting never shifts another's draws."""
    return np.random.default_rng([seed, number, *name.encode()])


def rotation(pitch: float = 0.0, roll: float = 0.0, yaw: float = 0.0) -> np.ndarray:
    """Rz(yaw)·Ry(roll)·Rx(pitch), radians; pitch turns the up axis to the front (−y)."""
    (cx, sx), (cy, sy), (cz, sz) = ((np.cos(v), np.sin(v)) for v in (pitch, roll, yaw))
    rx = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    ry = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    rz = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return rz @ ry @ rx


def draw(seed: int, number: int, lesion_share: float = 0.4) -> Anatomy:
    """Draw the anatomy of one subject.

    Args:
        seed: Of the cohort.
        number: Of the subject.
        lesion_share: Probability that the subject has lesions that only MR shows.

    Returns:
        The anatomy, a deterministic function of the arguments.
    """
    rng = stream(seed, number, "anatomy")
    sex = "F" if rng.random() < 0.5 else "M"
    age = int(rng.integers(28, 82))
    scale = (0.95 if sex == "F" else 1.03) * rng.uniform(0.95, 1.05)
    bones, sacrum, discs, endplate = _chain(rng, age, scale)
    spine, canal = _lines(bones, sacrum, discs)
    soft = _soft(rng, age, scale, spine)
    anatomy = Anatomy(age, sex, scale, bones, sacrum, endplate, discs, spine, canal, soft)
    anatomy.noise = _noise(stream(seed, number, "noise"))
    anatomy.lesions = _lesions(stream(seed, number, "lesions"), anatomy, lesion_share)
    return anatomy


def _chain(rng, age, scale):
    """Walk up from the sacral endplate, turning half a wedge before and after each body."""
    lordosis = rng.uniform(0.75, 1.2)
    slope = np.radians(SACRAL_SLOPE_DEG * (0.55 + 0.45 * lordosis) + rng.normal(0, 2))
    curve, phase = np.radians(rng.uniform(0, 3.5)), rng.uniform(0, 2 * np.pi)

    def axes(pitch, position):
        roll = curve * np.sin(2 * np.pi * position / 9 + phase)
        return rotation(pitch, roll, 0.5 * roll)

    point, pitch, bones, discs = np.zeros(3), slope, [], []
    for order, ((level, height, wedge), bone) in enumerate(zip(DISCS, VERTEBRAE, strict=True)):
        grade = _grade(rng, age, order)
        height = height * scale * rng.uniform(0.93, 1.07) * (1 - 0.09 * (grade - 1))
        wedge = np.radians(wedge * lordosis * rng.uniform(0.8, 1.2))
        frame = axes(pitch - wedge / 2, order)
        a = 0.5 * (bone[1] + (VERTEBRAE[order - 1][1] if order else SACRUM[0])) * scale
        b = 0.5 * (bone[2] + (VERTEBRAE[order - 1][2] if order else SACRUM[1])) * scale
        centre = point + frame[:, 2] * height / 2
        bulge = rng.uniform(0, 0.5) + 0.8 * max(0, grade - 2)
        discs.append(Disc(level, centre, frame, a, b, height, grade, bulge))
        point, pitch = point + frame[:, 2] * height, pitch - wedge
        name, a, b, height, wedge = bone
        height, wedge = height * scale * rng.uniform(0.97, 1.03), np.radians(wedge)
        frame = axes(pitch - wedge / 2, order + 0.5)
        bones.append(
            Bone(name, point + frame[:, 2] * height / 2, frame, a * scale, b * scale, height, wedge)
        )
        point, pitch = point + frame[:, 2] * height, pitch - wedge
    frame = axes(slope, -0.5)
    sacrum, ends = [], (0.0, *SACRUM_JOINTS_MM, SACRUM_LENGTH_MM)
    for order in range(4):
        share = (ends[order] + ends[order + 1]) / 2 / SACRUM_LENGTH_MM
        angle = share * SACRUM_LENGTH_MM / SACRUM_RADIUS_MM
        along = SACRUM_RADIUS_MM * scale * np.array([0, np.cos(angle) - 1, -np.sin(angle)])
        a, b = (
            scale * (top + share * (low - top)) for top, low in zip(SACRUM, SACRUM_END, strict=True)
        )
        height = scale * (ends[order + 1] - ends[order])
        local = rotation(-angle)
        sacrum.append(Bone(f"S{order + 1}", frame @ along, frame @ local, a, b, height, 0.0))
    endplate = Bone("endplate", np.zeros(3), frame, SACRUM[0] * scale, SACRUM[1] * scale, 0.0, 0.0)
    sacrum.append(endplate)
    origin = bones[2].centre.copy()
    for part in (*bones, *sacrum, *discs):
        part.centre = part.centre - origin
    return bones, sacrum[:-1], discs, endplate


def _grade(rng, age, order) -> int:
    """Degeneration grows with age and towards the sacrum."""
    load = (1.0, 1.1, 0.85, 0.65, 0.45, 0.3, 0.2)[order]
    return int(np.clip(np.round(1.2 + load * (age - 25) / 20 + rng.normal(0, 0.8)), 1, 5))


def _lines(bones, sacrum, discs):
    """Centre lines of the bodies and of the canal, as points sorted by z."""
    spine, canal = [], []
    for part in (*bones, *sacrum, *discs):
        spine.append(part.centre)
        canal.append(part.centre + part.axes[:, 1] * (part.b + CANAL_OFFSET_MM))
    return tuple(np.array(sorted(line, key=lambda p: p[2])) for line in (spine, canal))


def _soft(rng, age, scale, spine) -> dict:
    """Sizes (mm) of trunk, muscles, vessels and organs."""
    fat = rng.uniform(8, 24)
    lumbar = spine[np.abs(spine[:, 2]) < 60]
    blobs = []
    for _ in range(BOWEL_LOOPS):
        angle, distance = rng.uniform(0, 2 * np.pi), rng.uniform(0, 1) ** 0.5
        centre = (105 * distance * np.cos(angle), -68 + 42 * distance * np.sin(angle))
        size = rng.uniform(10, 22, 3) * (1, 0.9, 1.4)
        blobs.append((*centre, rng.uniform(-170, 90), *size, rng.uniform(0, 1)))
    return {
        "half_width": 122 * scale + 1.0 * fat + rng.uniform(-5, 5),
        "half_depth": 97 * scale + 0.7 * fat + rng.uniform(-4, 4),
        "centre_y": float(lumbar[:, 1].mean()) - 11 * scale,
        "fat": fat,
        "wall": rng.uniform(9, 14),
        "groove": rng.uniform(4, 9),
        "infiltration": float(np.clip(0.02 + 0.0035 * (age - 25) + rng.normal(0, 0.03), 0.01, 0.3)),
        "psoas": rng.uniform(0.85, 1.15) * scale,
        "erector": rng.uniform(0.9, 1.1) * scale,
        "sac": (rng.uniform(7.5, 9.5) * scale, rng.uniform(6.0, 7.2) * scale),
        "aorta": rng.uniform(8, 11),
        "cava": rng.uniform(9, 12),
        "kidney": rng.uniform(0.9, 1.1),
        "kidney_z": rng.uniform(15, 35, 2),
        "blobs": np.array(blobs),
        "roots": rng.uniform(-1, 1, (12, 3)),
        "marrow_hu": float(np.clip(225 - 1.8 * (age - 25) + rng.normal(0, 15), 90, 260)),
    }


def _noise(rng) -> dict:
    """Periodic textures in the material frame, mean 0 and deviation 1, float32 [z, y, x].

    ``fine``: trabeculae and parenchyma; ``streak``: fibres along z; ``slow``: broad variation.
    """
    tables = {}
    for name, sigma in (("fine", 0.9), ("streak", (4.0, 0.7, 1.1)), ("slow", 3.5)):
        white = rng.standard_normal((NOISE_SIZE,) * 3, dtype=np.float32)
        table = gaussian_filter(white, sigma, mode="wrap")
        tables[name] = ((table - table.mean()) / table.std()).astype(np.float32)
    return tables


def _lesions(rng, anatomy, share) -> list[Lesion]:
    """Up to three lesions inside a body, the dorsal annulus or the back muscles."""
    if rng.random() >= share:
        return []
    lesions = []
    for kind in rng.permutation(LESION_KINDS)[: rng.integers(1, 4)]:
        place = int(rng.integers(0, 4))
        bone, disc = anatomy.bones[place], anatomy.discs[place]
        if kind == "oedema":
            end = rng.choice([-1, 1])
            local = (rng.uniform(-8, 8), rng.uniform(-6, 6), end * bone.height * 0.36)
            lesions.append(
                Lesion(bone.centre + bone.axes @ local, rng.uniform(6, 9), "spongiosa", str(kind))
            )
        elif kind == "fissure":
            local = (rng.uniform(-6, 6), disc.b * 0.86, 0)
            lesions.append(
                Lesion(disc.centre + disc.axes @ local, rng.uniform(2, 3), "annulus", str(kind))
            )
        else:
            local = (rng.choice([-1, 1]) * rng.uniform(24, 34), disc.b + 27, 0)
            lesions.append(
                Lesion(disc.centre + disc.axes @ local, rng.uniform(4, 7), "muscle", str(kind))
            )
    return lesions
