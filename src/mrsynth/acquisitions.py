"""Slices of one series: parted into acquisitions, reconstructions and measurements, by header.

One SeriesInstanceUID may hold two echoes, magnitude and phase, four b-values, a soft and a sharp
reconstruction, or ten measurements in time. Each is a volume of its own; together they are none.
"""

from collections import Counter, defaultdict

import numpy as np

from mrsynth import stacks

ACQUISITION = (
    "ImageType",
    "ComplexImageComponent",
    "EchoNumbers",
    "EchoTime",
    "InversionTime",
    "FlipAngle",
    "DiffusionBValue",
    "TemporalPositionIdentifier",
    "SequenceName",
    "KVP",
    "ConvolutionKernel",
    "FilterType",
)
"""Slices that differ in one of these are different acquisitions, whatever their series."""
ACQUISITION_DIGITS = 2
"""Times are compared to 0.01 ms: scanners print the same echo time with rounding noise."""

RECONSTRUCTION = ("Rows", "Columns", "PixelSpacing", "SliceThickness", "ReconstructionDiameter")
"""What two reconstructions of one scan differ in, if they lie over each other."""
RECONSTRUCTION_OVERLAP = 0.5
"""Share of the shorter one's extent that two reconstructions have in common; a slice of a wrong
size at the end of a stack has nothing in common with it."""

MEASUREMENT = ("AcquisitionNumber", "TriggerTime", "AcquisitionTime")
"""What may tell apart the repeated measurements of a dynamic or gated scan, tried in this order."""


def part(slices: list[tuple], min_slices: int) -> list[tuple[str, list[tuple]]]:
    """Slices by acquisition, in the order of their labels.

    Args:
        slices: Pairs of a file and a slice's header values.
        min_slices: Fewest slices of a reconstruction or a measurement.

    Returns:
        Pairs of a label and its slices; the label is made of header text and stays private.
    """
    parts, labels = defaultdict(list), {}
    for item in slices:
        shared = item[1].shared
        if id(shared) not in labels:
            labels[id(shared)] = repr([_rounded(shared[name]) for name in ACQUISITION])
        parts[labels[id(shared)]].append(item)
    split = []
    for label in sorted(parts):
        for more, own in _reconstructions(parts[label], min_slices):
            split += _measurements(label + more, own, min_slices)
    return split


def _reconstructions(items: list[tuple], min_slices: int) -> list[tuple[str, list[tuple]]]:
    """Reconstructions of one scan, told apart by size, pixel and thickness, if they overlap."""
    parts = defaultdict(list)
    for item in items:
        parts[repr([item[1][name] for name in RECONSTRUCTION])].append(item)
    if len(parts) == 1 or min(map(len, parts.values())) < min_slices:
        return [("", items)]
    direction = stacks.normal(np.array(items[0][1]["ImageOrientationPatient"]))
    ranges = []
    for own in parts.values():
        along = places(own)[0] @ direction
        ranges.append((along.min(), along.max()))
    for i, (low, high) in enumerate(ranges):
        for other_low, other_high in ranges[:i]:
            common = min(high, other_high) - max(low, other_low)
            if common < RECONSTRUCTION_OVERLAP * min(high - low, other_high - other_low):
                return [("", items)]
    return [(label, parts[label]) for label in sorted(parts)]


def _measurements(label: str, items: list[tuple], min_slices: int) -> list[tuple[str, list[tuple]]]:
    """Repeated measurements, if some element tells the slices at one place apart."""
    repeated = stacks.same_position(*places(items))
    for name in MEASUREMENT if repeated else ():
        values = [piece[name] for _, piece in items]
        distinct = all(len({values[i] for i in group}) == len(group) for group in repeated)
        sizes = Counter(values)
        if (
            distinct
            and None not in sizes
            and "" not in sizes
            and len(set(sizes.values())) == 1
            and min(sizes.values()) >= min_slices
        ):
            return [
                (
                    f"{label}{value}",
                    [item for item, own in zip(items, values, strict=True) if own == value],
                )
                for value in sorted(sizes)
            ]
    return [(label, items)]


def _rounded(value):
    return round(value, ACQUISITION_DIGITS) if isinstance(value, float) else value


def places(items: list[tuple]) -> tuple[np.ndarray, np.ndarray]:
    """Positions [n, 3] (LPS mm) and orientations [n, 6] of pairs of a file and a slice."""
    positions = np.array([piece["ImagePositionPatient"] for _, piece in items])
    return positions, np.array([piece["ImageOrientationPatient"] for _, piece in items])
