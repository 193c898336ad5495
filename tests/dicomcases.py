"""The cases of an ingest, A1 to A28: each a folder of made DICOM with the volumes that are in it.

``CASES`` holds them by name. A case's function writes its files into a maker's folder and returns
the true volumes: an empty list where no true volume can be known and only a refusal is right.
"""

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pydicom

from dicomframes import colour, mosaic
from dicommake import ROOT_UID, Grid, Maker, True3D, close, true_volume
from dicomregistry import CASES, Case, case, several
from dicomstacks import UNEVEN
from dicomsyntax import SYNTAXES, recoded

__all__ = ["CASES", "UNEVEN", "Case"]

OTHER_CLASSES = {
    "structured report": "1.2.840.10008.5.1.4.1.1.88.11",
    "dose report": "1.2.840.10008.5.1.4.1.1.88.67",
    "presentation state": "1.2.840.10008.5.1.4.1.1.11.1",
    "structure set": "1.2.840.10008.5.1.4.1.1.481.3",
    "dose": "1.2.840.10008.5.1.4.1.1.481.2",
    "electrocardiogram": "1.2.840.10008.5.1.4.1.1.9.1.1",
    "document": "1.2.840.10008.5.1.4.1.1.104.1",
    "segmentation": "1.2.840.10008.5.1.4.1.1.66.4",
}
BOMB_BYTES = 2**29
LARGE = (10, 40, 36)
"""JPEG 2000 encodes nothing smaller than 32 pixels."""


@several(
    {
        "A13-rgb": ("RGB slices", "UNSUPPORTED_PHOTOMETRIC", "RGB"),
        "A13-palette": ("slices with a colour palette", "UNSUPPORTED_PHOTOMETRIC", "PALETTE COLOR"),
        "A13-mosaic": ("a mosaic of nine slices", "UNSUPPORTED_MOSAIC", "mosaic"),
    },
    "refused",
)
def _colour(maker, kind):
    if kind == "mosaic":
        maker.write_all(mosaic(maker))
        return []
    datasets, truth = colour(maker, kind)
    maker.write_all(datasets)
    return [truth]


@several(
    {f"A14-{name}": (f"{name}, lossless", "", name) for name in SYNTAXES},
    "right",
)
def _syntax(maker, name):
    grid = Grid(shape=LARGE)
    maker.write_all([recoded(dataset, name) for dataset in maker.series(grid)])
    return [true_volume(grid)]


@case("A14-lossy", "JPEG 2000 with loss", "refused", "LOSSY")
def _lossy(maker):
    datasets = [recoded(dataset, "jpeg-2000-lossy") for dataset in maker.series(Grid(LARGE))]
    maker.write_all(datasets)
    return []


@case("A14-unknown", "a transfer syntax that nobody decodes", "refused", "MISSING_DECODER")
def _undecodable(maker):
    datasets = maker.series(Grid())
    for dataset in datasets:
        dataset.PixelData = pydicom.encaps.encapsulate([bytes(dataset.PixelData)])
        dataset["PixelData"].is_undefined_length = True
        close(dataset, "1.2.840.10008.1.2.4.106")
    maker.write_all(datasets)
    return []


@several(
    {
        "A15-fraction": ("rescale with fractions, another in each slice", "", "CT"),
        "A15-mr": ("MR with rescale, the first slice's a whole number", "", "MR"),
    },
    "right",
)
def _rescale(maker, modality):
    grid, planes = Grid(), []
    datasets = maker.series(grid, modality)
    for number, dataset in enumerate(datasets):
        slope = [1, 0.5, 1.25, 0.37][number % 4] if number else 1
        intercept = [-1024, -1000.5, -500.25, -1023.63][number % 4] if modality == "CT" else 0
        dataset.RescaleSlope, dataset.RescaleIntercept = slope, intercept
        planes.append(stored(dataset) * slope + intercept)
    maker.write_all(datasets)
    air = -1000.0 if modality == "CT" else 0.0
    if modality == "CT":
        # Nothing is colder than air: what the made slopes push below it is written as air.
        planes = [np.maximum(plane, -1024) for plane in planes]
    return [True3D(np.array(planes, dtype=np.float32), grid.matrix, air=air)]


@case("A15-none", "CT without rescale", "refused", "CT_WITHOUT_RESCALE")
def _no_rescale(maker):
    grid = Grid()
    datasets = maker.series(grid, drop=("RescaleSlope", "RescaleIntercept"))
    maker.write_all(datasets)
    return [true_volume(grid)]


@several(
    {
        "A16-ct": ("CT, MONOCHROME1 (HU stay HU)", "", "CT"),
        "A16-mr": ("MR, MONOCHROME1 (bright is more signal)", "", "MR"),
    },
    "right",
)
def _monochrome1(maker, modality):
    grid = Grid()
    datasets = maker.series(grid, modality, PhotometricInterpretation="MONOCHROME1")
    if modality == "MR":
        for dataset in datasets:
            dataset.PixelData = (4095 - stored(dataset)).astype("<u2").tobytes()
    maker.write_all(datasets)
    return [true_volume(grid, modality)]


@several(
    {
        "A17-tagged": ("−2000 outside the round field, tagged as padding", "", True),
        "A17-untagged": ("−2000 outside the round field, not tagged", "", False),
    },
    "right",
)
def _padding(maker, tagged):
    grid = Grid()
    truth = true_volume(grid)
    y, x = np.indices(grid.shape[1:])
    outside = ((y - 11.5) / 11) ** 2 + ((x - 9.5) / 9) ** 2 > 1
    datasets = maker.series(grid, PixelRepresentation=1, BitsStored=16, HighBit=15)
    for dataset in datasets:
        plane = stored(dataset).astype("<i2")
        plane[outside] = -2000
        dataset.PixelData = plane.tobytes()
        if tagged:
            dataset.add_new("PixelPaddingValue", "SS", -2000)
    maker.write_all(datasets)
    array = truth.array.copy()
    array[:, outside] = np.nan
    return [True3D(array, grid.matrix)]


@several(
    {
        "A18-signed": ("12 signed bits in 16, high bits zero", "", True),
        "A18-overlay": ("12 bits in 16, overlay in the high bits", "", False),
    },
    "right",
)
def _bits(maker, signed):
    grid = Grid()
    truth = true_volume(grid)
    datasets = maker.series(grid, PixelRepresentation=int(signed))
    for dataset, plane in zip(datasets, truth.array, strict=True):
        if signed:
            dataset.RescaleIntercept = 0
            words = plane.astype(int) & 0x0FFF
        else:
            words = (plane.astype(int) + 1024) | (maker.rng.integers(0, 16, plane.shape) << 12)
        dataset.PixelData = words.astype("<u2").tobytes()
    maker.write_all(datasets)
    return [truth]


def _spoil_header(path, content):
    path.write_bytes(content[:200])


def _spoil_pixels(path, content):
    path.write_bytes(content[:-300])


def _spoil_all(path, content):
    path.write_bytes(b"")


def _spoil_html(path, content):
    path.write_text("<html><body>404 not found</body></html>")


def _spoil_noise(path, content):
    path.write_bytes(np.random.default_rng(3).bytes(len(content)))


@several(
    {
        "A19-pixels": ("one file cut in its pixels", "CORRUPT", _spoil_pixels),
        "A19-header": ("one file cut in its header", "CORRUPT", _spoil_header),
        "A19-empty": ("one file empty", "CORRUPT", _spoil_all),
        "A19-html": ("one file an error page", "CORRUPT", _spoil_html),
        "A19-noise": ("one file random bytes", "CORRUPT", _spoil_noise),
    },
    "refused",
)
def _spoilt(maker, spoil):
    grid = Grid()
    paths = maker.write_all(maker.series(grid))
    # The last slice: a reader that drops it makes a shorter volume that looks sound.
    spoil(paths[-1], paths[-1].read_bytes())
    return [true_volume(grid)]


def _without_preamble(maker, meta: bool):
    grid = Grid()
    for dataset, path in zip(
        (datasets := maker.series(grid)), maker.write_all(datasets), strict=True
    ):
        if meta:
            path.write_bytes(path.read_bytes()[132:])
        else:
            del dataset.file_meta
            dataset.save_as(path, enforce_file_format=False, implicit_vr=True, little_endian=True)
    return [true_volume(grid)]


several(
    {
        "A20-default": ("no preamble, no meta group", "NO_PREAMBLE", False),
    },
    "refused",
)(_without_preamble)
several(
    {
        "A20-setting": ("the same, with `index.accept_bare: true`", "", False),
        "A20-meta": ("no preamble but a meta group, same setting", "", True),
    },
    "right",
    index={"accept_bare": True},
)(_without_preamble)


@case("A21", "reports, dose, RT, ECG, PDF, segmentation and a DICOMDIR beside a CT", "right")
def _other_objects(maker):
    grid = Grid()
    maker.write_all(maker.series(grid), folder="ct")
    for number, (name, uid) in enumerate(OTHER_CLASSES.items()):
        dataset = maker.dataset(SOPClassUID=uid, SeriesInstanceUID=maker.uid(), Modality="OT")
        del dataset.PixelData
        dataset.SeriesDescription = name
        maker.save(dataset, f"other/{number}")
    _directory(maker)
    return [true_volume(grid)]


def _directory(maker: Maker) -> None:
    """A DICOMDIR that points out of the tree, to a slice that must not come in."""
    outside = maker.folder.parent / f"{maker.folder.name}-outside.dcm"
    dataset = maker.series(Grid())[0]
    dataset.PatientID = "outside"
    close(dataset)
    dataset.save_as(outside, enforce_file_format=True)
    record = pydicom.Dataset()
    record.DirectoryRecordType = "IMAGE"
    record.ReferencedFileID = ["..", outside.name]
    directory = pydicom.Dataset()
    directory.SOPClassUID = "1.2.840.10008.1.3.10"
    directory.SOPInstanceUID = maker.uid()
    directory.FileSetID = ""
    directory.DirectoryRecordSequence = [record]
    maker.save(directory, "DICOMDIR")


@several(
    {
        "A22-patient": ("two patients under one series UID", "INCONSISTENT_IDENTITY", "PatientID"),
        "A22-study": ("two studies under one", "INCONSISTENT_IDENTITY", "StudyInstanceUID"),
        "A22-frame": ("two frames of reference", "INCONSISTENT_IDENTITY", "FrameOfReferenceUID"),
        "A22-modality": ("CT and MR under one", "INCONSISTENT_IDENTITY", "Modality"),
    },
    "refused",
)
def _mixed(maker, name):
    first = Grid(shape=(5, 24, 20), spacing=(6, 2, 1.5))
    second = Grid(shape=(5, 24, 20), spacing=(6, 2, 1.5), origin=(-14, -21, -9))
    modality = "MR" if name == "Modality" else "CT"
    other = {} if name == "Modality" else {name: f"{ROOT_UID}9.9"}
    datasets = maker.series(first)
    uid = datasets[0].SeriesInstanceUID
    datasets += maker.series(second, modality, scale=0.6, SeriesInstanceUID=uid, **other)
    maker.write_all(datasets)
    return [true_volume(first), true_volume(second, modality, scale=0.6)]


@several(
    {
        "A23-position": ("no ImagePositionPatient", "MISSING_POSITION", "ImagePositionPatient"),
        "A23-orientation": (
            "no ImageOrientationPatient",
            "MISSING_ORIENTATION",
            "ImageOrientationPatient",
        ),
        "A23-spacing": ("no PixelSpacing", "MISSING_SPACING", "PixelSpacing"),
        "A23-rows": ("no Rows", "MISSING_SIZE", "Rows"),
        "A23-series": ("no SeriesInstanceUID", "MISSING_UID", "SeriesInstanceUID"),
        "A23-instance": ("no SOPInstanceUID", "MISSING_UID", "SOPInstanceUID"),
        "A23-patient": ("no PatientID", "NO_PATIENT_ID", "PatientID"),
    },
    "refused",
)
def _without(maker, name):
    grid = Grid()
    datasets = maker.series(grid)
    paths = maker.write_all(datasets)
    for dataset, path in zip(datasets, paths, strict=True):
        delattr(dataset, name)
        if name == "SOPInstanceUID":
            dataset.file_meta.MediaStorageSOPInstanceUID = ""
        dataset.preamble = bytes(128)
        dataset.save_as(path, enforce_file_format=False)
    unknown = name in ("ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows")
    return [] if unknown else [true_volume(grid)]


@several(
    {
        "A23-nan": (
            "a position that is no number",
            "BAD_POSITION",
            {"ImagePositionPatient": "NaN\\0\\0"},
        ),
        "A23-five": (
            "an orientation of five numbers",
            "BAD_ORIENTATION",
            {"ImageOrientationPatient": [1, 0, 0, 0, 1]},
        ),
        "A23-skew": (
            "rows and columns not perpendicular",
            "BAD_ORIENTATION",
            {"ImageOrientationPatient": [1, 0, 0, 0.3, 0.953939, 0]},
        ),
        "A23-zero": ("a pixel spacing of zero", "BAD_SPACING", {"PixelSpacing": [0, 1.5]}),
    },
    "refused",
)
def _bad(maker, elements):
    datasets = maker.series(Grid())
    for dataset in datasets:
        for name, value in elements.items():
            if isinstance(value, str):
                # A value that pydicom itself would not write.
                with pydicom.config.disable_value_validation():
                    dataset.add_new(name, "LO", value)
            else:
                setattr(dataset, name, value)
    for path in maker.write_all(datasets):
        content = path.read_bytes()
        mark = struct.pack("<HH", 0x0020, 0x0032) + b"LO"
        path.write_bytes(content.replace(mark, mark[:4] + b"DS"))
    return []


@case("A24", "positions rounded or off by 2 µm", "right")
def _jitter(maker):
    grid = Grid()
    datasets = maker.series(grid)
    for dataset in datasets:
        moved = np.array(dataset.ImagePositionPatient) + maker.rng.uniform(-0.002, 0.002, 3)
        dataset.ImagePositionPatient = [round(float(value), 3) for value in moved]
    maker.write_all(datasets)
    return [true_volume(grid)]


@case("A25", "one slice of another size", "refused", "INCONSISTENT_SIZE")
def _size(maker):
    grid = Grid()
    datasets = maker.series(grid)
    other = Grid((1, 20, 20), origin=tuple(grid.part(10, 11).origin))
    datasets += maker.series(other, SeriesInstanceUID=datasets[0].SeriesInstanceUID)
    maker.write_all(datasets)
    return [true_volume(grid), true_volume(other)]


@case("A26", "delivered twice; quotes, newline, emoji, bytes in names; a loop of links", "right")
def _names(maker):
    grid = Grid()
    datasets = maker.series(grid)
    names = [
        *("a b.dcm", "it's.dcm", 'quo"te.dcm', "new\nline.dcm", "\U0001f9b4.dcm", "$(touch x).dcm"),
        *("ü.dcm", "IMG.DCM", "img.dcm", "..dcm"),
    ]
    maker.write_all(datasets, "first", names)
    maker.write_all(datasets, "sec;ond", [f"{number}" for number in range(10)])
    os.symlink(maker.folder, maker.folder / "first/loop")
    bad = os.path.join(os.fsencode(maker.folder), b"first", b"\xff.txt")
    Path(os.fsdecode(bad)).write_bytes(b"")
    return [true_volume(grid)]


@several(
    {
        "A27-ffs": ("feet first, supine", "", ("FFS", (-1, 0, 0, 0, 1, 0))),
        "A27-hfp": ("head first, prone", "", ("HFP", (-1, 0, 0, 0, -1, 0))),
        "A27-hfdr": ("decubitus right", "", ("HFDR", (0, 1, 0, -1, 0, 0))),
        "A27-up": ("slices counted from head to feet", "", ("HFS", (1, 0, 0, 0, 1, 0))),
    },
    "right",
)
def _positions(maker, place):
    position, axes = place
    grid = Grid(axes=axes, spacing=(3, 1.5, 1.5), origin=(14, 9, -12))
    datasets = maker.series(grid, PatientPosition=position)
    if axes == (1, 0, 0, 0, 1, 0):
        for number, dataset in enumerate(datasets):
            dataset.InstanceNumber = 10 - number
    maker.write_all(datasets)
    return [true_volume(grid)]


@several(
    {
        "A28-rows": ("60000 × 60000 pixels promised", "IMPOSSIBLE_SIZE", "rows"),
        "A28-length": ("4 GB of pixels promised", "CORRUPT", "length"),
        "A28-bomb": ("one file deflated, 0.5 MB that inflate to 512 MB", "IMPOSSIBLE_SIZE", ""),
    },
    "refused",
)
def _huge(maker, what):
    grid = Grid()
    datasets = maker.series(grid)
    if what == "rows":
        for dataset in datasets:
            dataset.Rows = dataset.Columns = 60000
    paths = maker.write_all(datasets)
    if what == "length":
        mark = struct.pack("<HH", 0x7FE0, 0x0010) + b"OW\0\0"
        for path in paths:
            head, tail = path.read_bytes().split(mark)
            path.write_bytes(head + mark + struct.pack("<I", 0xFFFFFFF0) + tail[4:])
    if not what:
        _make_bomb(paths[0])
    # Where only a length lies, the pixels are there: who finds them is right.
    return [] if what == "rows" else [true_volume(grid)]


def _make_bomb(path: Path) -> None:
    """Rewrite a file as deflated, with zeros in a private element that inflate to BOMB_BYTES."""
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    plain, body = io.BytesIO(), io.BytesIO()
    dataset.save_as(plain, enforce_file_format=True)
    meta = 144 + struct.unpack("<I", plain.getvalue()[140:144])[0]
    content = zlib.decompress(plain.getvalue()[meta:], -zlib.MAX_WBITS)
    squeeze = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    body.write(squeeze.compress(content))
    body.write(squeeze.compress(struct.pack("<HH2sHI", 0x7FE1, 0x0010, b"OB", 0, BOMB_BYTES)))
    for _ in range(BOMB_BYTES >> 20):
        body.write(squeeze.compress(bytes(1 << 20)))
    body.write(squeeze.flush())
    path.write_bytes(plain.getvalue()[:meta] + body.getvalue())


def stored(dataset: pydicom.Dataset) -> np.ndarray:
    """Stored values of a made slice, [rows, columns]."""
    kind = "<i2" if dataset.PixelRepresentation else "<u2"
    return np.frombuffer(dataset.PixelData, kind).reshape(dataset.Rows, dataset.Columns).astype(int)
