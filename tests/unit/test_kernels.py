"""Kernels by the vendors' names."""

import pytest

from mrsynth.kernels import NEUTRAL, SHARP, SOFT, sharpness


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("B10f", "B20s", "B30f", "B31s", "B40f", "B45f", "I30f", "H30s", "Br40d", "Hr36"), SOFT),
        (("B60s", "B70f", "B80s", "Br64", "Hr69", "Bl57", "U90u"), SHARP),
        (("STANDARD", "SOFT", "Standard"), SOFT),
        (("BONE", "BONEPLUS", "LUNG", "EDGE"), SHARP),
        (("A", "B", "C", "UB"), SOFT),
        (("D", "E", "L", "YA", "YB", "YD"), SHARP),
        (("FC01", "FC08", "FC18", "FC13", "FC21", "FC08-H"), SOFT),
        (("FC30", "FC35", "FC51", "FC81", "fc30-h"), SHARP),
        (("", "krn-BONE2345", "DETAIL", "B50f", "FC44", "Qx", "B"[:0]), NEUTRAL),
    ],
)
def test_kernels_of_all_vendors(names, expected):
    assert {name: sharpness(name) for name in names} == dict.fromkeys(names, expected)


def test_soft_comes_first():
    assert sorted(["BONE", "", "SOFT"], key=sharpness) == ["SOFT", "", "BONE"]
