"""Spines that are counted wrongly: four or six lumbar vertebrae, a transitional one, a lumbar rib.

They are made of a subject that is already drawn, so that its other anatomy stays the same.
"""

import numpy as np

from mrsynth.errors import StudyError
from mrsynth.phantom.anatomy import Anatomy, Bone
from mrsynth.phantom.shapes import paint_rods

VARIANTS = (
    "",
    "four_lumbar",
    "six_lumbar",
    "sacralised",
    "lumbarised",
    "lumbar_rib",
)
# Rods of bone (local mm: left, behind the body's back edge, up; radius) that join the lowest
# vertebra's transverse processes to the sacral alae: Castellvi's type IIIb.
WINGS = (
    ((16.0, 6.0, 0.0), (44.0, 2.0, -10.0), 9.0),
    ((36.0, 2.0, -8.0), (42.0, -3.0, -34.0), 10.0),
)


def vary(anatomy: Anatomy, variant: str) -> Anatomy:
    """The subject with another count of vertebrae; the subject itself for an empty name.

    ``four_lumbar`` and ``six_lumbar`` have other names and ribs on the same bones. ``sacralised``
    is a fifth lumbar vertebra that is joined to the sacrum, ``lumbarised`` a sixth one (a first
    sacral one that came off) that still is. ``lumbar_rib`` has a pair of short ribs on L1.

    Raises:
        StudyError: If the variant is unknown.
    """
    if variant not in VARIANTS:
        known = ", ".join(filter(None, VARIANTS))
        raise StudyError(f"phantom: variant: unknown variant {variant!r}; use one of {known}.")
    count = {"four_lumbar": 4, "six_lumbar": 6, "lumbarised": 6}.get(variant, 5)
    if count != 5:
        names = [*(f"L{n}" for n in range(count, 0, -1)), *(f"T{n}" for n in range(12, 0, -1))]
        for bone, name in zip(anatomy.bones, names, strict=False):
            bone.name = name
        for disc, lower, upper in zip(anatomy.discs, ["S1", *names], names, strict=False):
            disc.level = f"{upper}-{lower}"
    if variant in ("sacralised", "lumbarised"):
        anatomy.additions.append(lambda *points: _wings(anatomy.bones[0], *points))
    if variant == "lumbar_rib":
        next(bone for bone in anatomy.bones if bone.name == "L1").rib = True
    return anatomy


def _wings(bone: Bone, part, x, y, z, reach) -> None:
    """Paint the bridges from a vertebra's transverse processes to the sacral alae."""
    back = np.array([0.0, bone.b, 0.0])
    rods = [(np.add(start, back), np.add(end, back), radius) for start, end, radius in WINGS]
    paint_rods(bone, rods, part, x, y, z, reach)
