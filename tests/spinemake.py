"""Made spines for the tests of `locate`: label maps with known gaps, points as users place them."""

import json

import numpy as np
import SimpleITK as sitk


def cylinders(tilts_deg, gap_mm=10.0, height_mm=26.0):
    """Label map of a straight column of tilted discs, TotalSegmentator's numbers; the true gaps."""
    spacing = 1.5
    step = gap_mm + height_mm
    count = len(tilts_deg) + 1
    z, y, x = np.meshgrid(
        *[np.arange(-n, n + spacing, spacing) for n in (count * step / 2 + 10, 30, 36)],
        indexing="ij",
    )
    inside = (x / 24) ** 2 + (y / 17) ** 2 < 1
    middles = (np.arange(count - 1) - (count - 2) / 2) * step
    labels = np.zeros(z.shape, np.int16)
    planes = []
    for middle, tilt in zip(middles, tilts_deg, strict=True):
        normal = np.array([0, np.sin(np.radians(tilt)), np.cos(np.radians(tilt))])
        planes.append((y * normal[1] + (z - middle) * normal[2], np.array([0, 0, middle]), normal))
    for number in range(count):
        body = inside.copy()
        if number:
            body &= planes[number - 1][0] > gap_mm / 2
        else:
            body &= z > middles[0] - step
        if number < count - 1:
            body &= planes[number][0] < -gap_mm / 2
        else:
            body &= z < middles[-1] + step
        labels[body] = 26 + number
    image = sitk.GetImageFromArray(labels)
    image.SetSpacing([spacing] * 3)
    image.SetOrigin([float(x.min()), float(y.min()), float(z.min())])
    return image, [(centre, normal) for _, centre, normal in planes]


def markups(path, system, points):
    sign = -1 if system == "RAS" else 1
    content = [
        {"label": label, "position": [sign * x, sign * y, z], "positionStatus": "defined"}
        for label, (x, y, z) in points
    ]
    content.append({"label": "", "position": [0, 0, 0], "positionStatus": "undefined"})
    text = {"markups": [{"type": "Fiducial", "coordinateSystem": system, "controlPoints": content}]}
    path.write_text(json.dumps(text))
    return path


POINTS = [
    ("L4-L5", (1, -20, 100)),
    ("L4-L5 sac", (1, 6, 105)),
    ("L4-L5 ventral", (1, -38, 95)),
    ("L4-L5 right", (-24, -20, 100)),
    ("L4-L5 left", (26, -20, 100)),
    ("L5-S1", (1, -14, 66)),
]
