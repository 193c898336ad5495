"""Tissue at a point of the material frame, by implicit shapes (mm, negative inside)."""

import numpy as np

from mrsynth.phantom.anatomy import (
    NOISE_SIZE,
    SACRUM_JOINTS_MM,
    SACRUM_LENGTH_MM,
    SACRUM_RADIUS_MM,
    Anatomy,
    Bone,
    Disc,
)

TISSUES = (
    "air",
    "skin",
    "fat",
    "muscle",
    "cortical",
    "spongiosa",
    "annulus",
    "ligament",
    "csf",
    "nerve",
    "blood",
    "kidney",
    "liver",
    "bowel",
    "gas",
    "nucleus-1",
    "nucleus-2",
    "nucleus-3",
    "nucleus-4",
    "nucleus-5",
)
AIR, SKIN, FAT, MUSCLE, CORTICAL, SPONGIOSA, ANNULUS, LIGAMENT = range(8)
CSF, NERVE, BLOOD, KIDNEY, LIVER, BOWEL, GAS, NUCLEUS = range(8, 16)  # NUCLEUS + grade - 1
# Texture used by each tissue: name of the noise table and its scale, mm per table voxel.
TEXTURES = {
    SKIN: ("fine", 1.0),
    FAT: ("slow", 1.5),
    MUSCLE: ("streak", 0.8),
    CORTICAL: ("fine", 0.8),
    SPONGIOSA: ("fine", 0.8),
    ANNULUS: ("slow", 0.8),
    **{NUCLEUS + grade: ("slow", 0.8) for grade in range(5)},
    KIDNEY: ("slow", 1.0),
    LIVER: ("fine", 1.3),
    BOWEL: ("slow", 1.0),
    LIGAMENT: ("fine", 0.8),
}
SKIN_MM = 2.0
# Cortical shell of a vertebral body; 0.4 mm in life, thickened to survive 1 mm voxels.
SHELL_MM = 1.4
ARCH_SHELL_MM = 2.0


def label(anatomy: Anatomy, x, y, z) -> tuple[np.ndarray, np.ndarray]:
    """Tissue and texture at points.

    Args:
        anatomy: The subject.
        x, y, z: Material coordinates, LPS mm, flat float32 arrays; fast where they are a thin slab.

    Returns:
        Indices into :data:`TISSUES` (uint8) and texture (float32, mean 0, deviation 1).
    """
    tissue = np.zeros(x.size, np.uint8)
    spine_x, spine_y = _follow(anatomy.spine, z)
    inside, cavity = _trunk(anatomy, tissue, x, y, z, spine_x)
    x, y, z = x[inside], y[inside], z[inside]
    side, back = x - spine_x[inside], y - spine_y[inside]
    part = tissue[inside]
    reach = (float(z.min()), float(z.max())) if z.size else (0.0, 0.0)
    _organs(anatomy, part, x, y, z, side, back, reach, cavity)
    _muscles(anatomy, part, x, y, z, side, back, reach)
    _canal_fat(anatomy, part, x, y, z)
    _pelvis(anatomy, part, x, y, z, reach)
    for disc in anatomy.discs:
        _disc(anatomy, disc, part, x, y, z, reach)
    _sacrum(anatomy, part, x, y, z, reach)
    for bone in anatomy.bones:
        _vertebra(bone, part, x, y, z, reach)
        if bone.name.startswith("T") or bone.rib:
            _ribs(anatomy, bone, part, x, y, z, reach)
    for paint in anatomy.additions:
        paint(part, x, y, z, reach)
    _sac(anatomy, part, x, y, z)
    tissue[inside] = part
    texture = np.zeros(tissue.size, np.float32)
    texture[inside] = _texture(anatomy, part, x, y, z)
    return tissue, texture


def _follow(line, z):
    """x and y of a centre line at heights z."""
    return (np.interp(z, line[:, 2], line[:, axis]).astype(np.float32) for axis in (0, 1))


def _near(part, x, y, z, reach, centre, half):
    """Indices of the points within a box around ``centre`` (half edges ``half``, mm), or None."""
    if reach[0] > centre[2] + half[2] or reach[1] < centre[2] - half[2]:
        return None
    hit = np.flatnonzero(
        (np.abs(x - np.float32(centre[0])) < half[0])
        & (np.abs(y - np.float32(centre[1])) < half[1])
        & (np.abs(z - np.float32(centre[2])) < half[2])
    )
    return hit if hit.size else None


def _local(x, y, z, centre, axes):
    """Coordinates in a part's own frame (left, posterior, up)."""
    axes = axes.astype(np.float32)
    x, y, z = x - np.float32(centre[0]), y - np.float32(centre[1]), z - np.float32(centre[2])
    return tuple(x * axes[0, k] + y * axes[1, k] + z * axes[2, k] for k in range(3))


def _capsule(x, y, z, start, end, radius, flat=(1.0, 1.0, 1.0)):
    """Distance to a rod with round ends; ``flat`` > 1 makes it thinner along that axis."""
    flat = np.array(flat, np.float32)
    start, end = np.array(start, np.float32) * flat, np.array(end, np.float32) * flat
    dx, dy, dz = x * flat[0] - start[0], y * flat[1] - start[1], z * flat[2] - start[2]
    rod = end - start
    t = np.clip((dx * rod[0] + dy * rod[1] + dz * rod[2]) / np.float32(rod @ rod), 0, 1)
    return (
        np.sqrt((dx - t * rod[0]) ** 2 + (dy - t * rod[1]) ** 2 + (dz - t * rod[2]) ** 2) - radius
    )


def _ellipse(u, v, a, b):
    """Radius relative to an ellipse's edge."""
    return np.sqrt((u * np.float32(1 / a)) ** 2 + (v * np.float32(1 / b)) ** 2)


def _trunk(anatomy, tissue, x, y, z, spine_x):
    """Skin, fat and wall; returns the points in the body, and which of them are in the cavity."""
    soft = anatomy.soft
    side = np.abs(x - np.float32(0.5) * spine_x)
    # The pelvis is wider than the waist.
    widen = 1 + 0.08 * np.exp(-(((z + 110) / 60) ** 2)) + 0.03 * np.exp(-(((z - 110) / 60) ** 2))
    u = side / (np.float32(soft["half_width"]) * widen)
    back = y - np.float32(soft["centre_y"])
    v = (back + np.where(back > 0, soft["groove"] * np.exp(-((side / 20) ** 2)), 0)) / soft[
        "half_depth"
    ]
    r = (u * u * np.sqrt(u) + v * v * np.sqrt(np.abs(v))) ** np.float32(0.4)
    inside = np.flatnonzero(r < 1)
    r, side, back = r[inside], side[inside], back[inside]
    # Along the radius; the middle of the trunk is far from the skin whatever the direction.
    depth = np.where(r < 0.3, 70, (1 - r) / np.maximum(r, 0.3) * np.sqrt(side**2 + back**2))
    part = np.full(inside.size, FAT, np.uint8)
    fat = np.float32(soft["fat"]) * np.where(back > 0, 0.8 + 0.3 * np.minimum(side / 100, 1), 1)
    fat = fat * (1 - 0.3 * np.minimum(side / 120, 1))
    # Behind, the wall thins out into the fascia at the edge of the back muscles.
    thin = np.where(back < 20, 1, np.clip((side - 62) / 35, 0, 1))
    wall = (depth > fat) & (depth < fat + soft["wall"] * thin)
    # Fat planes between the three layers of the lateral wall.
    layer = (depth - fat) / soft["wall"] * 3
    plane = (np.abs(layer - np.round(layer)) < 0.13) & (layer > 0.5) & (layer < 2.5) & (side > 60)
    part[wall & ~plane] = MUSCLE
    part[depth < SKIN_MM] = SKIN
    tissue[inside] = part
    return inside, depth > fat + soft["wall"] + 3


def _organs(anatomy, part, x, y, z, side, back, reach, cavity):
    """Bowel with gas, liver, spleen, kidneys, aorta and vena cava."""
    soft = anatomy.soft
    for cx, cy, cz, rx, ry, rz, filling in soft["blobs"]:
        hit = _near(part, x, y, z, reach, (cx, cy, cz), (rx, ry, rz))
        if hit is None:
            continue
        r = np.sqrt(
            ((x[hit] - cx) / rx) ** 2 + ((y[hit] - cy) / ry) ** 2 + ((z[hit] - cz) / rz) ** 2
        )
        # Gas rises to the front of a supine patient.
        gas = (r < 0.85) & (y[hit] - cy < ry * (filling - 0.9))
        kind = np.where(gas, GAS, BOWEL)
        keep = (r < 1) & cavity[hit]
        part[hit[keep]] = kind[keep]
    for centre, half, tissue in (
        ((-75, -55, 130), (62, 66, 75), LIVER),
        ((95, -15, 120), (28, 42, 45), LIVER),
        ((62, -10 + 4, soft["kidney_z"][0]), (27, 24, 52), KIDNEY),
        ((-62, -10 + 4, soft["kidney_z"][1] - 10), (27, 24, 50), KIDNEY),
    ):
        size = soft["kidney"] if tissue == KIDNEY else 1.0
        half = tuple(h * size for h in half)
        hit = _near(part, x, y, z, reach, centre, half)
        if hit is None:
            continue
        u, v, w = ((c[hit] - o) / h for c, o, h in zip((x, y, z), centre, half, strict=True))
        r = np.sqrt(u**2 + v**2 + w**2)
        keep = (r < 1) & cavity[hit]
        part[hit[keep]] = tissue
        if tissue == KIDNEY:
            sinus = ((u * np.sign(centre[0]) + 0.55) / 0.55) ** 2 + (v / 0.35) ** 2 + (w / 0.5) ** 2
            part[hit[keep & (sinus < 1)]] = FAT
    _vessels(anatomy, part, z, side, back)


def _vessels(anatomy, part, z, side, back):
    """Aorta and vena cava on the front of the spine, parting into the iliac vessels at L4."""
    soft = anatomy.soft
    fork = float(anatomy.bones[1].centre[2]) - 8
    below = np.maximum(fork - z, 0)
    front = np.float32(-(anatomy.bones[2].b + 12)) - 0.15 * np.minimum(below, 60)
    for start, radius in ((9.0, soft["aorta"]), (-14.0, soft["cava"])):
        for sign in (-1, 1):
            spread = start * np.clip(1 - below / 40, 0, 1) + sign * 0.75 * below
            radius_z = np.where(below > 0, radius * 0.68, radius)
            shift = -3.0 * (start > 0)
            part[np.hypot(side - spread, back - front - shift) < radius_z] = BLOOD


def _muscles(anatomy, part, x, y, z, side, back, reach):
    """Psoas, back muscles and quadratus lumborum with fat planes between, gluteal muscles."""
    soft = anatomy.soft
    width = np.abs(side)
    size = np.float32(soft["psoas"])
    down = np.clip((60 - z) / 110, 0.15, 1.3)
    low = np.maximum(-z - 75, 0)
    psoas = _ellipse(
        width - (27 + 15 * down + 0.28 * low),
        back - 1 + 0.55 * low,
        17 * size * down,
        22 * size * down,
    )
    hits = [psoas < 1]
    size = np.float32(soft["erector"])
    pelvis = np.clip((-z - 60) / 80, 0, 1)
    deep = 46 + 4 * pelvis
    shrink = 1 - 0.45 * pelvis
    longissimus = _ellipse(
        width - 37, back - deep + 0.12 * (width - 36), 20 * size * shrink, 22 * size * shrink
    )
    iliocostalis = _ellipse(width - 62, back - deep + 5, 16 * size * shrink, 18 * size * shrink)
    multifidus = _ellipse(width - 12, back - deep - 2, 13 * size, 22 * size * (1 - 0.2 * pelvis))
    hits += [longissimus < 1, (iliocostalis < 1) & (longissimus > 1.06)]
    hits += [(multifidus < 1) & (longissimus > 1.06)]
    quadratus = _ellipse(width - 62 - 0.1 * (z - 20), back - 17, 17, 8)
    hits += [(quadratus < 1) & (z > -80)]
    lean = part != SKIN
    for hit in hits:
        part[hit & lean] = MUSCLE
    if reach[0] < -60:
        grow = np.clip((-70 - z) / 80, 0.01, 1) ** 0.7
        gluteal = (_ellipse(width - 80, back - 42, 52 * grow**0.5, 36 * grow) < 1) & (z < -70)
        flare = np.clip((-72 - z) / 45, 0.01, 1) ** 0.6
        iliacus = (_ellipse(width - 82, back + 12, 18 * flare, 26 * flare) < 1) & (z < -72)
        part[(gluteal | iliacus) & lean & (part == FAT)] = MUSCLE
    # Fat streaks between the fibres, most in the multifidus.
    muscle = np.flatnonzero(part == MUSCLE)
    share = soft["infiltration"] * np.where(multifidus[muscle] < 1, 1.8, 1.0)
    share = np.where(psoas[muscle] < 1, 0.3 * share, share)
    streak = _noise(anatomy, "streak", 0.8, x[muscle], y[muscle], z[muscle])
    part[muscle[streak > 2.1 - 5.5 * np.minimum(share, 0.3)]] = FAT


def _canal_fat(anatomy, part, x, y, z):
    """Fat and ligament around the spine, where no bone will cover it."""
    cx, cy = _follow(anatomy.canal, z)
    u, v = x - cx, y - cy
    # Epidural and foraminal fat: wide, but thin from front to back.
    part[(np.abs(u) < 24) & (np.abs(v) < 8)] = FAT
    # Ligamenta flava: a roof behind the sac, open at the midline.
    roof = np.abs(v - 9.5 + 0.55 * np.abs(u)) < 2.0
    part[roof & (np.abs(u) > 1.5) & (np.abs(u) < 12)] = LIGAMENT
    part[(np.abs(u) < 1.6) & (v > 12) & (v < 36)] = LIGAMENT


def _body(u, v, w, a, b, height, wedge):
    """Distance to a vertebral body with waist, hollow back and hollow endplates."""
    waist = 1 - 0.09 * np.clip(1 - (2 * w / height) ** 2, 0, 1)
    hollow = np.where(v > 0, 1.5 * np.exp(-((u / 9) ** 2)), 0)
    p, q = np.abs(u) / (a * waist), np.abs(v + hollow) / (b * waist)
    r = (p * p * np.sqrt(p) + q * q * np.sqrt(q)) ** np.float32(0.4)
    half = height / 2 - 0.5 * np.tan(wedge) * v - 1.6 * np.clip(1 - r * r, 0, 1)
    return _round((r - 1) * min(a, b), np.abs(w) - half, 2.5)


def _round(p, q, radius):
    """Intersection of two shapes with a rounded edge."""
    corner = np.hypot(np.maximum(p + radius, 0), np.maximum(q + radius, 0)) - radius
    return np.where((p > -radius) & (q > -radius), corner, np.maximum(p, q))


def _paint_bone(part, hit, distance, shell):
    """Cortical within ``shell`` mm of the surface, spongiosa deeper."""
    keep = distance < 0
    part[hit[keep]] = np.where(distance[keep] > -shell, CORTICAL, SPONGIOSA)


def paint_rods(bone: Bone, rods, part, x, y, z, reach):
    """Rods (start, end, radius in the bone's own mm) on both sides of a vertebra."""
    hit = _near(part, x, y, z, reach, bone.centre, (70, 60, 60))
    if hit is not None:
        u, v, w = _local(x[hit], y[hit], z[hit], bone.centre, bone.axes)
        _paint_bone(part, hit, np.minimum.reduce([_capsule(abs(u), v, w, *r) for r in rods]), 1.6)


def _disc(anatomy: Anatomy, disc: Disc, part, x, y, z, reach):
    """Annulus and nucleus, bulging over the bodies' edges."""
    half = (disc.a + 6, disc.b + 10, disc.height + 14)
    hit = _near(part, x, y, z, reach, disc.centre, half)
    if hit is None:
        return
    u, v, w = _local(x[hit], y[hit], z[hit], disc.centre, disc.axes)
    bulge = 1 + np.float32(disc.bulge / disc.b)
    p, q = np.abs(u) / (disc.a * bulge), np.abs(v + np.where(v > 0, 1.0, 0)) / (disc.b * bulge)
    r = (p * p * np.sqrt(p) + q * q * np.sqrt(q)) ** np.float32(0.4)
    # Bodies are painted later and take back what is theirs, so the disc may reach into them.
    keep = (r < 1) & (np.abs(w) < disc.height / 2 + 3)
    core = np.sqrt((u / (0.66 * disc.a)) ** 2 + ((v - 1) / (0.64 * disc.b)) ** 2)
    # The inner annulus lies between: tissue of one grade more; its lamellae have no sharp border.
    core = np.maximum(core, np.abs(w) / (disc.height * 0.5 + 1))
    core += 0.07 * _noise(anatomy, "fine", 0.5, x[hit], y[hit], z[hit])
    kind = np.where(core < 0.8, NUCLEUS + disc.grade - 1, ANNULUS)
    kind[(core >= 0.8) & (core < 1.0)] = NUCLEUS + min(disc.grade + 1, 4)
    part[hit[keep]] = kind[keep]


def _vertebra(bone: Bone, part, x, y, z, reach):
    """Body and posterior elements; the pedicles' marrow runs into the body's."""
    middle = bone.centre + bone.axes @ np.array([0, 19.0, -6.0])
    hit = _near(part, x, y, z, reach, middle, (50, 46, 46))
    if hit is None:
        return
    u, v, w = _local(x[hit], y[hit], z[hit], bone.centre, bone.axes)
    front = v < bone.b + 1
    distance = _body(u[front], v[front], w[front], bone.a, bone.b, bone.height, bone.wedge)
    arch = np.flatnonzero((v > bone.b - 7) & (w > -40) & (w < 26))
    if arch.size:
        around = _arch(bone, np.abs(u[arch]), v[arch], w[arch])
        _paint_bone(part, hit[arch], around, ARCH_SHELL_MM)
    _paint_bone(part, hit[front], distance, SHELL_MM)
    root = np.flatnonzero((v > bone.b - 7) & (v < bone.b + 5))
    pedicle = _capsule(
        np.abs(u[root]),
        v[root],
        w[root],
        (15, bone.b - 6, 5),
        (16, bone.b + 9, 5),
        5.2,
        (1.25, 1, 0.8),
    )
    inner = root[pedicle < -1.6]
    part[hit[inner]] = SPONGIOSA


def _ribs(anatomy, bone: Bone, part, x, y, z, reach):
    """A pair of ribs along the trunk's wall, falling to the front; the twelfth is short."""
    soft = anatomy.soft
    top, front = float(bone.centre[2]), -60.0 if bone.name in ("T11", "T10") else 5.0
    hit = _near(part, x, y, z, reach, (0, bone.centre[1], top - 25), (160, 120, 55))
    if hit is None:
        return
    u = np.abs(x[hit] - np.float32(0.5 * bone.centre[0]))
    v = y[hit] - np.float32(soft["centre_y"])
    inset = soft["fat"] + soft["wall"] * 0.5
    ring = _ellipse(u, v, soft["half_width"] - inset, soft["half_depth"] - inset - 6)
    height = z[hit] - (top + 4 - 0.42 * (np.float32(bone.centre[1] + 30) - y[hit]))
    distance = np.hypot((ring - 1) * soft["half_depth"] * 1.1 * 1.4, height * 0.85) - 5
    neck = np.float32(bone.centre[1] + bone.b + 6)
    distance = np.maximum.reduce([distance, front - v, 14 - u])
    stalk = _capsule(
        u, y[hit], z[hit], (bone.a - 2, neck, top + 6), (62, bone.centre[1] + 42, top + 4), 4.5
    )
    _paint_bone(part, hit, np.minimum(distance, stalk), 1.6)


def _arch(bone, u, v, w):
    """Distance to the posterior elements (|u|: both sides at once)."""
    b, thoracic = bone.b, bone.name.startswith("T")
    long = 0.65 if thoracic else 1.0
    rods = [
        ((15, b - 6, 5), (16, b + 9, 5), 5.2, (1.25, 1, 0.8)),  # pedicle
        ((16, b + 12, 2), (4, b + 22, -6), 4.2, (1, 1.1, 0.55)),  # lamina
        ((4, b + 21, -6), (0, b + 24, -8), 4.2, (1, 1, 0.5)),
        ((0, b + 24, -8), (0, b + 46, -13), 4.4, (1.35, 1, 0.5)),  # spinous process
        ((18, b + 9, 4), (18 + 22 * long, b + 14, 5), 4.6, (1, 1.3, 0.9)),  # transverse process
    ]
    # The joint space runs obliquely between the facets; each is cut 0.8 mm before its plane.
    ahead = (u - 16.5) * 0.81 - (v - b - 15.5) * 0.58
    upper = _capsule(u, v, w, (18, b + 10, 4), (19.5, b + 12.5, 20), 6.2, (1, 1, 1))
    lower = _capsule(u, v, w, (12, b + 18, -5), (13, b + 18.5, -23), 6.0, (1, 1, 1))
    facets = [np.maximum(upper, 0.8 - ahead), np.maximum(lower, ahead + 0.8)]
    return np.minimum.reduce([_capsule(u, v, w, *rod) for rod in rods] + facets)


def _sacrum(anatomy, part, x, y, z, reach):
    """Fused segments along an arc: bodies, wings (alae), foramina, canal with roof and crest."""
    middle, top = anatomy.sacrum[1].centre, anatomy.endplate
    hit = _near(part, x, y, z, reach, middle, (66, 75, 80))
    if hit is None:
        return
    u, v, w = _local(x[hit], y[hit], z[hit], top.centre, top.axes)
    radius = np.float32(SACRUM_RADIUS_MM * anatomy.scale)
    # Straighten the arc: s runs down along it, v is the distance behind it (mm of a mean adult).
    s = np.arctan2(-w, v + radius) * radius / anatomy.scale
    v = (np.hypot(w, v + radius) - radius) / anatomy.scale
    u = np.abs(u) / anatomy.scale
    share = np.clip(s / SACRUM_LENGTH_MM, 0, 1)
    a, b = 26 - 16 * share, 16 - 9.5 * share
    length = np.maximum(-s, s - SACRUM_LENGTH_MM)
    r = np.sqrt((u / a) ** 2 + (v / b) ** 2)
    body = np.maximum((r - 1) * b, length)
    wide = np.interp(s, (0, 35, 65, 100), (53, 51, 34, 12)).astype(np.float32)
    slope = 5 + 0.30 * np.maximum(u - 24, 0)
    ala = np.maximum.reduce(
        [u - wide, np.abs(v - 0.12 * u - 3) - (0.75 * b + 3), slope - s, s - SACRUM_LENGTH_MM]
    )
    back = b + 19 - 8 * share
    roof = np.maximum.reduce(
        [np.abs(v - back + 0.25 * u) - 3.2, u - 0.62 * wide, 6 - s, s - SACRUM_LENGTH_MM]
    )
    crest = np.maximum.reduce(
        [u - 3.5, np.abs(v - back - 4) - 5 - 3 * np.cos(2 * np.pi * (s - 14) / 24), 8 - s, s - 90]
    )
    canal = _ellipse(u, v - b - 7 + 3 * share, 13 - 6 * share, 6.5 - 3 * share) < 1
    holes = np.zeros(u.size, bool)
    for joint in SACRUM_JOINTS_MM:
        holes |= np.hypot(u - 0.52 * wide, s - joint) < 4.2
    distance = np.minimum.reduce([body, ala, roof, crest])
    distance = np.where((canal | holes) & (body > 0), 1.0, distance)
    _paint_bone(part, hit, distance, 1.6)
    for joint in SACRUM_JOINTS_MM[:2]:
        remnant = (np.abs(s - joint) < 1.6) & (r < 0.8)
        part[hit[remnant]] = ANNULUS
        part[hit[(np.abs(np.abs(s - joint) - 2.2) < 0.6) & (r < 0.9)]] = CORTICAL


def _pelvis(anatomy, part, x, y, z, reach):
    """Iliac wings: curved plates from the sacroiliac joints upwards, outwards and to the front."""
    base = anatomy.sacrum[0].centre
    if reach[0] > base[2] + 70:
        return
    hit = np.flatnonzero((z < base[2] + 70) & (np.abs(np.abs(x - np.float32(base[0])) - 80) < 50))
    u = np.abs(x[hit] - np.float32(base[0]))
    v, w = y[hit] - np.float32(base[1]), z[hit] - np.float32(base[2])
    ahead = np.float32(22) - v
    surface = 59 + 0.66 * ahead - 0.0040 * ahead**2 + 0.25 * np.maximum(w + 25, -10)
    edge = np.sqrt(((ahead - 44) / 68) ** 2 + ((w + 45) / 88) ** 2)
    thick = 4.0 + 4.5 * np.exp(-((ahead / 22) ** 2)) + 3.0 * np.exp(-(((edge - 1) / 0.12) ** 2))
    distance = np.maximum(np.abs(u - surface) - thick, (edge - 1) * 60)
    _paint_bone(part, hit, distance, 1.8)


def _sac(anatomy, part, x, y, z):
    """Thecal sac down to S2 with cauda equina; cord and conus above L1-L2."""
    cx, cy = _follow(anatomy.canal, z)
    u, v = x - cx, y - cy
    end = float(anatomy.sacrum[1].centre[2])
    near = np.flatnonzero((np.abs(u) < 13) & (np.abs(v) < 10) & (z > end))
    u, v, z = u[near], v[near], z[near]
    a, b = anatomy.soft["sac"]
    taper = np.clip((z - end) / 55, 0, 1) ** 0.5 * np.float32(1)
    r = _ellipse(u, v, a, b) / np.maximum(taper, 1e-3)
    free = ~np.isin(part[near], (CORTICAL, SPONGIOSA))
    part[near[(r < 1) & free]] = CSF
    conus = float(anatomy.discs[4].centre[2])
    cord = np.clip((z - conus) / 30, 0, 1) ** 0.7
    part[near[(_ellipse(u, v - 0.5, 4.8, 3.8) < cord) & free]] = NERVE
    for number, (p, q, phase) in enumerate(anatomy.soft["roots"]):
        # Roots fan out along the dorsal wall and leave to the side, the upper ones first.
        wander = 0.5 * np.sin(z / 17 + 6 * phase)
        ru = (0.75 * a * p) * taper + wander
        rv = (0.30 * b * q + 0.33 * b) * taper - 0.12 * b * (ru / a) ** 2 + 0.3 * wander
        leaves = anatomy.discs[min(number // 3, 3)].centre[2]
        hit = (
            (np.hypot(u - ru, v - rv) < 0.95)
            & (z < conus + 22)
            & ((z > leaves) | (number > 8))
            & (r < 0.93)
        )
        part[near[hit & free]] = NERVE


def _noise(anatomy, name, scale, x, y, z):
    """Nearest value of a periodic texture table."""
    index = [
        (c * np.float32(1 / scale) + np.float32(8192)).astype(np.int32) & (NOISE_SIZE - 1)
        for c in (x, y, z)
    ]
    return anatomy.noise[name][index[2], index[1], index[0]]


def _texture(anatomy, part, x, y, z):
    texture = np.zeros(part.size, np.float32)
    for tissue, (name, scale) in TEXTURES.items():
        hit = np.flatnonzero(part == tissue)
        if hit.size:
            texture[hit] = _noise(anatomy, name, scale, x[hit], y[hit], z[hit])
            if tissue in (SPONGIOSA, LIVER):
                slow = _noise(anatomy, "slow", 1.1, x[hit], y[hit], z[hit])
                texture[hit] = 0.75 * texture[hit] + 0.65 * slow
    return texture
