"""Cases A1 to A12: where the slices lie, and what belongs together."""

import numpy as np

from dicomframes import enhanced
from dicommake import Grid, True3D, true_volume
from dicomregistry import CASES, Case, case, several


@case("A1", "shuffled names, InstanceNumber reversed", "right")
def _reversed_numbers(maker):
    grid = Grid()
    datasets = maker.series(grid)
    for number, dataset in enumerate(datasets):
        dataset.InstanceNumber = len(datasets) - number
    maker.write_all(datasets)
    return [true_volume(grid)]


@several(
    {
        "A2-oblique": ("double oblique, rows and columns of unlike spacing", "", (31, -22, 48)),
        "A2-sagittal": ("sagittal, rows and columns of unlike spacing", "", None),
    },
    "right",
)
def _orientations(maker, angles):
    axes = (0, 1, 0, 0, 0, -1) if angles is None else None
    grid = Grid(spacing=(4, 0.8, 1.7), angles=angles or (0, 0, 0), axes=axes)
    maker.write_all(maker.series(grid))
    return [true_volume(grid)]


@several(
    {
        "A3-one": ("one slice of ten missing", "MISSING_SLICES", (5,)),
        "A3-two": ("two neighbouring slices of ten missing", "MISSING_SLICES", (5, 6)),
    },
    "refused",
)
def _missing(maker, gone):
    grid = Grid()
    datasets = [d for number, d in enumerate(maker.series(grid)) if number not in gone]
    maker.write_all(datasets)
    return [true_volume(grid.part(0, gone[0])), true_volume(grid.part(gone[-1] + 1, 10))]


@several(
    {
        "A4-copy": ("one file twice", "", False),
        "A4-uid": ("one slice twice, under another UID", "", True),
    },
    "right",
)
def _duplicate(maker, other_uid):
    grid = Grid()
    datasets = maker.series(grid)
    again = maker.series(grid)[4]
    again.SeriesInstanceUID = datasets[0].SeriesInstanceUID
    if not other_uid:
        again.SOPInstanceUID = datasets[4].SOPInstanceUID
    maker.write_all([*datasets, again])
    return [true_volume(grid)]


@case("A4-conflict", "two slices at one place with other pixels", "refused", "DUPLICATE_POSITION")
def _conflict(maker):
    datasets = maker.series(Grid())
    again = maker.series(Grid())[4]
    again.SeriesInstanceUID = datasets[0].SeriesInstanceUID
    again.PixelData = bytes(len(again.PixelData))
    maker.write_all([*datasets, again])
    return []


@several(
    {
        "A5-tagged": ("gantry tilted by 14°, as the header says", "", 14.0),
        "A5-untagged": ("gantry tilted by 14°, the header says 0", "", 0.0),
    },
    "right",
)
def _tilt(maker, tag):
    grid = Grid(spacing=(3, 1.5, 1.5), angles=(14, 0, 0), shear=-3 * np.tan(np.radians(14)))
    maker.write_all(maker.series(grid, GantryDetectorTilt=tag))
    return [true_volume(grid)]


UNEVEN = (0, 3, 6, 9.8, 12, 15, 18, 21)


@several(
    {"A6": ("uneven steps between slices", "VARIABLE_SPACING", None)},
    "refused",
)
def _uneven(maker, _):
    volumes, datasets, uid = [], [], maker.uid()
    for height in UNEVEN:
        matrix = Grid().matrix
        origin = matrix[:3, 3] + height / 3 * matrix[:3, 2]
        grid = Grid(shape=(1, 24, 20), origin=tuple(origin))
        datasets += maker.series(grid, SeriesInstanceUID=uid)
        volumes.append(grid)
    maker.write_all(datasets)
    # The field between the slices is known as well: whoever interpolates is judged by it.
    whole = Grid(shape=(8, 24, 20))
    known = true_volume(whole)
    return [True3D(np.full(whole.shape, np.inf), whole.matrix, known.function)]


CASES["A6-setting"] = Case(
    "A6",
    "the same, with `index.uneven: keep`, `convert.uneven: resample`",
    CASES["A6"].make,
    "right",
    options={"index": {"uneven": "keep"}, "convert": {"uneven": "resample"}},
)


@case("A7", "MR, three blocks angled to their discs under one UID", "split right")
def _angled(maker):
    uid, datasets, volumes = maker.uid(), [], []
    for number, angle in enumerate((-12, 1, 15)):
        grid = Grid((4, 24, 20), (4, 1.5, 1.5), (angle, 0, 0), (-14, -18, 34.0 * number - 34))
        datasets += maker.series(grid, "MR", SeriesInstanceUID=uid)
        volumes.append(true_volume(grid, "MR"))
    maker.write_all(datasets)
    return volumes


@case("A8", "MR, three parallel blocks of four with gaps of 22 mm", "split right")
def _blocks(maker):
    uid, datasets, volumes = maker.uid(), [], []
    for number in range(3):
        grid = Grid((4, 24, 20), (4, 1.5, 1.5), (0, 0, 0), (-14, -18, 34.0 * number - 34))
        datasets += maker.series(grid, "MR", SeriesInstanceUID=uid)
        volumes.append(true_volume(grid, "MR"))
    maker.write_all(datasets)
    return volumes


@several(
    {
        "A9-echoes": ("two echoes in one series", "", ("EchoTime", (20, 100), "")),
        "A9-phase": ("magnitude and phase in one series", "", ("ImageType", ("M", "P"), "")),
        "A9-bvalue": ("two b-values in one series", "", ("DiffusionBValue", (0.0, 800.0), "")),
        "A9-derived": ("a derived map in the series of its source", "", ("ImageType", (), "ADC")),
    },
    "split right",
)
def _acquisitions(maker, kinds):
    name, values, derived = kinds
    if name == "ImageType" and derived:
        values = (["ORIGINAL", "PRIMARY", "M"], ["DERIVED", "PRIMARY", "ADC"])
    elif name == "ImageType":
        values = [["ORIGINAL", "PRIMARY", kind, "ND"] for kind in values]
    uid, datasets, volumes = maker.uid(), [], []
    for number, value in enumerate(values):
        scale = (1.0, 0.6)[number]
        grid = Grid(shape=(6, 24, 20))
        datasets += maker.series(
            grid,
            "MR",
            scale=scale,
            SeriesInstanceUID=uid,
            EchoNumbers=1 + number * (not derived),
            **{name: value},
        )
        volumes.append(true_volume(grid, "MR", scale=scale))
    maker.write_all(datasets)
    return volumes


@several(
    {
        "A10-marked": ("a localizer in the series", "", ["ORIGINAL", "PRIMARY", "LOCALIZER"]),
        "A10-odd": ("a coronal slice in the series, not marked", "", None),
    },
    "right",
)
def _localizer(maker, image_type):
    grid = Grid()
    datasets = maker.series(grid)
    odd = Grid((1, 24, 20), (3, 2, 1.5), axes=(1, 0, 0, 0, 0, -1), origin=(-14, 0, 24))
    more = {} if image_type is None else {"ImageType": image_type}
    datasets += maker.series(odd, SeriesInstanceUID=datasets[0].SeriesInstanceUID, **more)
    maker.write_all(datasets)
    return [true_volume(grid), true_volume(odd, required=False)]


@case("A11", "two slices only", "refused", "TOO_FEW_SLICES")
def _few(maker):
    grid = Grid(shape=(2, 24, 20))
    maker.write_all(maker.series(grid))
    return [true_volume(grid)]


@several(
    {
        "A12-shared": ("enhanced CT, orientation shared", "", ("CT", "shared", False)),
        "A12-perframe": ("enhanced MR, all per frame", "", ("MR", "per-frame", False)),
        "A12-order": ("enhanced MR, frames in random order", "", ("MR", "per-frame", True)),
    },
    "right",
)
def _enhanced(maker, kind):
    modality, where, shuffled = kind
    grid = Grid()
    order = maker.rng.permutation(10) if shuffled else np.arange(10)
    maker.save(enhanced(maker, [grid], modality, where, order), "multi.dcm")
    return [true_volume(grid, modality)]


@case("A12-orientations", "enhanced MR, three orientations in one file", "split right")
def _orientations_in_one(maker):
    axes = ((1, 0, 0, 0, 1, 0), (1, 0, 0, 0, 0, -1), (0, 1, 0, 0, 0, -1))
    grids = [Grid((5, 24, 20), (4, 2, 1.5), axes=pair) for pair in axes]
    maker.save(enhanced(maker, grids, "MR", "per-frame", maker.rng.permutation(15)), "multi.dcm")
    return [true_volume(grid, "MR") for grid in grids]
