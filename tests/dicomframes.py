"""Made DICOM with several frames, colours or tiles in one file."""

import numpy as np
import pydicom
from pydicom.sequence import Sequence

from dicommake import CT_INTERCEPT, ROOT_UID, Grid, Maker, True3D, decimals, true_volume

ENHANCED = {"CT": "1.2.840.10008.5.1.4.1.1.2.1", "MR": "1.2.840.10008.5.1.4.1.1.4.1"}
"""Enhanced CT and MR image storage (PS3.3 A.38, A.36)."""
MOSAIC_SIDE = 3


def enhanced(maker: Maker, grids: list[Grid], modality: str, where: str, order) -> pydicom.Dataset:
    """One multi-frame image of one or several grids of one size.

    Args:
        maker: Gives UIDs.
        grids: Their slices become the frames.
        modality: CT or MR.
        where: ``shared`` puts orientation, spacing and rescale into the shared functional groups
            (PS3.3 C.7.6.16), ``per-frame`` into every frame's.
        order: Order of the frames.
    """
    intercept = CT_INTERCEPT if modality == "CT" else 0
    frames = [
        (grid, number, plane)
        for grid in grids
        for number, plane in enumerate(true_volume(grid, modality).array - intercept)
    ]
    frames = [frames[index] for index in order]
    pixels = np.stack([plane for _, _, plane in frames]).astype("<u2")
    dataset = maker.dataset(
        pixels[0],
        modality=modality,
        SOPClassUID=ENHANCED[modality],
        SeriesInstanceUID=maker.uid(),
        BitsStored=12,
        HighBit=11,
        PixelRepresentation=0,
        NumberOfFrames=len(frames),
        drop=(
            *("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "SliceThickness"),
            *("RescaleSlope", "RescaleIntercept", "EchoTime", "RepetitionTime"),
        ),
    )
    dataset.PixelData = pixels.tobytes()
    common = [_fixed_groups(grids[0], modality, intercept)] if where == "shared" else [_item()]
    dataset.SharedFunctionalGroupsSequence = Sequence(common)
    dataset.DimensionOrganizationSequence = Sequence([_item(DimensionOrganizationUID=maker.uid())])
    dataset.PerFrameFunctionalGroupsSequence = Sequence(
        [
            _frame(grid, number, place, where, modality, intercept)
            for place, (grid, number, _) in enumerate(frames, start=1)
        ]
    )
    return dataset


def _frame(grid: Grid, number: int, place: int, where: str, modality: str, intercept: int):
    group = _item() if where == "shared" else _fixed_groups(grid, modality, intercept)
    position = grid.matrix[:3, 3] + number * grid.matrix[:3, 2]
    group.PlanePositionSequence = Sequence([_item(ImagePositionPatient=decimals(position))])
    group.FrameContentSequence = Sequence(
        [_item(DimensionIndexValues=[1, place], StackID="1", InStackPositionNumber=number + 1)]
    )
    # As Philips does: the classic header once more, half a pixel away from the standard's place.
    half = (grid.matrix[:3, 0] + grid.matrix[:3, 1]) / 2
    block = group.private_block(0x2005, "Philips MR Imaging DD 005", create=True)
    block.add_new(0x0F, "SQ", [_item(ImagePositionPatient=decimals(position - half))])
    return group


def _fixed_groups(grid: Grid, modality: str, intercept: int) -> pydicom.Dataset:
    group = _item()
    group.PlaneOrientationSequence = Sequence(
        [_item(ImageOrientationPatient=decimals(grid.orientation.ravel(), 9))]
    )
    group.PixelMeasuresSequence = Sequence(
        [_item(PixelSpacing=list(grid.spacing[1:]), SliceThickness=grid.spacing[0])]
    )
    group.PixelValueTransformationSequence = Sequence(
        [_item(RescaleIntercept=intercept, RescaleSlope=1, RescaleType="US")]
    )
    if modality == "MR":
        group.MREchoSequence = Sequence([_item(EffectiveEchoTime=100.0)])
    return group


def _item(**elements) -> pydicom.Dataset:
    dataset = pydicom.Dataset()
    for name, value in elements.items():
        setattr(dataset, name, value)
    return dataset


def colour(maker: Maker, kind: str) -> tuple[list[pydicom.Dataset], True3D]:
    """Slices in RGB, or with a palette that turns the stored order around."""
    grid = Grid()
    values = np.clip((true_volume(grid).array + 500) / 5, 0, 255).astype(np.uint8)
    datasets = maker.series(grid)
    for dataset, plane in zip(datasets, values, strict=True):
        dataset.PhotometricInterpretation = kind
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
        for name in ("RescaleSlope", "RescaleIntercept"):
            delattr(dataset, name)
        if kind == "RGB":
            dataset.SamplesPerPixel, dataset.PlanarConfiguration = 3, 0
            plane = np.repeat(plane[..., None], 3, axis=-1)
        else:
            table = (np.arange(255, -1, -1).astype("<u2") << 8).tobytes()
            for name in ("Red", "Green", "Blue"):
                setattr(dataset, f"{name}PaletteColorLookupTableDescriptor", [256, 0, 16])
                setattr(dataset, f"{name}PaletteColorLookupTableData", table)
        dataset.PixelData = plane.tobytes()
    truth = values if kind == "RGB" else 255 - values
    return datasets, True3D(truth.astype(float), grid.matrix, air=0)


def mosaic(maker: Maker) -> list[pydicom.Dataset]:
    """Three images in each of which nine slices are tiled."""
    uid, datasets = maker.uid(), []
    grid = Grid(shape=(MOSAIC_SIDE**2, 24, 20))
    for number in range(3):
        planes = maker.series(grid, "MR")
        tiles = np.stack([np.frombuffer(d.PixelData, "<u2").reshape(24, 20) for d in planes])
        side = MOSAIC_SIDE
        tiled = tiles.reshape(side, side, 24, 20).swapaxes(1, 2).reshape(side * 24, side * 20)
        dataset = maker.dataset(
            tiled,
            ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"],
            SeriesInstanceUID=uid,
            FrameOfReferenceUID=f"{ROOT_UID}0.4",
            ImagePositionPatient=[0.0, 0.0, 3.0 * number],
            InstanceNumber=number + 1,
        )
        datasets.append(dataset)
    return datasets
