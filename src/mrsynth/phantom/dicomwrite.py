"""A phantom as CT, MR and CR Image Storage, as scanners send them (DICOM PS3.3 A.2, A.3, A.4)."""

from datetime import date, timedelta
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    ExplicitVRLittleEndian,
    MRImageStorage,
    generate_uid,
)

from mrsynth import volume
from mrsynth.phantom.acquire import MAGNIFICATION
from mrsynth.phantom.signals import SEQUENCES, inversion_time
from mrsynth.phantom.subject import GAP_MM, Subject

# Registered to nobody: the root that PS3.5 B.2 gives to UIDs derived from a UUID.
UID_PREFIX = "2.25."
FIRST_DAY = date(2019, 3, 4)
HERTZ_PER_TESLA = 42.577e6
CT_INTERCEPT = -1024
MISSING = 0.45  # which part of the CT loses its slice: in the lumbar spine, where it matters
PIXEL_BANDWIDTH = 190


def datasets(subject: Subject, rng) -> list[Dataset]:
    """All instances of a subject.

    Args:
        subject: Simulated.
        rng: For dates and the scanners' identity.

    Returns:
        Complete datasets with file meta information.
    """
    strange = set(subject.truth["awkward"])
    first = FIRST_DAY + timedelta(days=int(rng.integers(0, 900)))
    days = {"CT": first, "MR": first + timedelta(days=subject.truth["interval_days"])}
    days["CR"] = days["MR"]
    brand = BRANDS[int(rng.integers(0, len(BRANDS)))]
    result = []
    for order, (name, stacks) in enumerate(subject.images.items(), start=1):
        kind = {"ct": "CT", "xray": "CR"}.get(name, "MR")
        base = _patient(subject, first)
        _study(base, subject.number, kind, name, order, days[kind], brand[kind])
        if kind == "CT":
            items = _ct(base, stacks[0], "missing_slice" in strange)
        elif kind == "CR":
            items = [_cr(base, stacks[0])]
        else:
            items = _mr(base, stacks, name, subject.truth["field_t"])
        for item in items:
            instance = f"{base.SeriesInstanceUID}/{item.InstanceNumber}"
            _close(item, _uid(instance))
        result += items
    return result


# Fictional makers, so that nothing is mistaken for a real scanner's data.
BRANDS = (
    {
        "CT": ("Phantom Works", "Ring 64", "B40f"),
        "MR": ("Phantom Works", "Coil 15", ""),
        "CR": ("Phantom Works", "Plate", ""),
    },
    {
        "CT": ("Synthetic Imaging", "Spiral 128", "STANDARD"),
        "MR": ("Synthetic Imaging", "Echo", ""),
        "CR": ("Synthetic Imaging", "Panel", ""),
    },
)


def _uid(*parts) -> str:
    """A deterministic UID."""
    return generate_uid(prefix=UID_PREFIX, entropy_srcs=["mrsynth phantom", *map(str, parts)])


def _patient(subject: Subject, day: date) -> Dataset:
    """Patient and age on the first day of imaging."""
    base = Dataset()
    base.PatientName = f"Phantom^{subject.number:04d}"
    base.PatientID = f"PHANTOM-{subject.number:04d}"
    base.PatientBirthDate = f"{day.year - subject.truth['age_years'] - 1}0701"
    base.PatientSex = subject.truth["sex"]
    base.PatientAge = f"{subject.truth['age_years']:03d}Y"
    return base


def _study(base: Dataset, number: int, kind: str, name: str, order: int, day: date, brand) -> None:
    """Study, series, equipment and frame of reference."""
    stamp = day.strftime("%Y%m%d")
    base.StudyInstanceUID = _uid(number, kind, "study")
    base.SeriesInstanceUID = _uid(number, name, "series")
    base.StudyDate = base.SeriesDate = base.AcquisitionDate = base.ContentDate = stamp
    base.StudyTime = "095500"
    base.SeriesTime = base.AcquisitionTime = base.ContentTime = f"10{order:02d}00"
    base.StudyID = f"{number}"
    base.AccessionNumber = ""
    base.ReferringPhysicianName = ""
    base.StudyDescription = {"CT": "CT lumbar spine", "MR": "MR lumbar spine", "CR": "X-ray"}[kind]
    base.Modality = kind
    base.SeriesNumber = order
    base.Manufacturer, base.ManufacturerModelName = brand[0], brand[1]
    if kind != "CR":
        base.FrameOfReferenceUID = _uid(number, kind, "frame")
        base.PositionReferenceIndicator = ""
        base.PatientPosition = "HFS"
    if kind == "CT":
        base.ConvolutionKernel = brand[2]


def _pixels(item: Dataset, array: np.ndarray, bits: int) -> None:
    """Image pixel module of one 16-bit slice (row, column)."""
    item.SamplesPerPixel = 1
    item.PhotometricInterpretation = "MONOCHROME2"
    item.Rows, item.Columns = array.shape
    item.BitsAllocated, item.BitsStored, item.HighBit = 16, bits, bits - 1
    item.PixelRepresentation = 0
    item.PixelData = array.astype("<u2").tobytes()


def _decimal(values) -> list[str]:
    """Decimal strings of at most 16 bytes, six decimals as scanners round."""
    return [f"{float(value) + 0.0:.6f}".rstrip("0").rstrip(".") for value in values]


def _slices(base: Dataset, image: sitk.Image, first: int) -> list[tuple[Dataset, np.ndarray]]:
    """One dataset with image plane per slice of a stack; instance numbers from ``first``."""
    matrix = volume.affine(image)
    array = sitk.GetArrayFromImage(image)
    spacing = image.GetSpacing()
    axes = matrix[:3, :2] / np.array(spacing[:2])
    result = []
    for index in range(array.shape[0]):
        item = Dataset()
        item.update(base)
        item.InstanceNumber = first + index
        item.AcquisitionNumber = 1
        position = matrix[:3, 3] + index * matrix[:3, 2]
        item.ImagePositionPatient = _decimal(position)
        item.ImageOrientationPatient = _decimal([*axes[:, 0], *axes[:, 1]])
        item.PixelSpacing = _decimal([spacing[1], spacing[0]])
        item.SliceLocation = _decimal([position @ (matrix[:3, 2] / spacing[2])])[0]
        result.append((item, array[index]))
    return result


def _ct(base: Dataset, image: sitk.Image, missing: bool) -> list[Dataset]:
    items = []
    spacing = image.GetSpacing()
    for item, array in _slices(base, image, 1):
        item.SOPClassUID = CTImageStorage
        item.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        item.SeriesDescription = "Lumbar spine axial"
        item.BodyPartExamined = "LSPINE"
        item.KVP = "120"
        item.XRayTubeCurrent = 210
        item.DataCollectionDiameter = "500"
        item.ReconstructionDiameter = _decimal([spacing[0] * image.GetWidth()])[0]
        item.GantryDetectorTilt = "0"
        item.SliceThickness = _decimal([spacing[2]])[0]
        item.SpacingBetweenSlices = _decimal([spacing[2]])[0]
        item.RescaleIntercept, item.RescaleSlope, item.RescaleType = str(CT_INTERCEPT), "1", "HU"
        item.WindowCenter, item.WindowWidth = "50", "350"
        _pixels(item, array.astype(np.int32) - CT_INTERCEPT, 12)
        items.append(item)
    if missing:
        del items[round(MISSING * len(items))]
    return items


def _mr(base: Dataset, stacks: list[sitk.Image], name: str, tesla: float) -> list[Dataset]:
    sequence = SEQUENCES[name]
    items: list[Dataset] = []
    for stack in stacks:
        for item, array in _slices(base, stack, len(items) + 1):
            item.SOPClassUID = MRImageStorage
            item.ImageType = [
                "ORIGINAL",
                "PRIMARY",
                "LOCALIZER" if name == "localizer" else "OTHER",
            ]
            item.SeriesDescription = item.ProtocolName = sequence.description
            item.BodyPartExamined = "LSPINE"
            item.ScanningSequence = ["SE", "IR"] if sequence.ti else "SE"
            item.SequenceVariant = "SK"
            item.ScanOptions = ""
            item.MRAcquisitionType = "2D"
            item.SequenceName = f"tse{sequence.echoes}"
            item.RepetitionTime, item.EchoTime = str(sequence.tr), str(sequence.te)
            item.EchoTrainLength = sequence.echoes
            if sequence.ti:
                item.InversionTime = str(inversion_time(sequence, tesla))
            item.NumberOfAverages = "2"
            item.EchoNumbers = 1
            item.FlipAngle = "150"
            item.PixelBandwidth = str(PIXEL_BANDWIDTH)
            item.MagneticFieldStrength = str(tesla)
            item.ImagingFrequency = _decimal([HERTZ_PER_TESLA * tesla / 1e6])[0]
            item.ImagedNucleus = "1H"
            step = stack.GetSpacing()[2]
            thick = step if stack.GetDepth() == 1 else step - GAP_MM
            item.SliceThickness = _decimal([thick])[0]
            item.SpacingBetweenSlices = _decimal([step])[0]
            peak = float(np.percentile(array, 99)) or 1.0
            item.WindowCenter, item.WindowWidth = f"{peak / 2:.0f}", f"{max(peak, 1):.0f}"
            _pixels(item, array, 12)
            items.append(item)
    return items


def _cr(base: Dataset, image: sitk.Image) -> Dataset:
    item = Dataset()
    item.update(base)
    item.SOPClassUID = ComputedRadiographyImageStorage
    item.ImageType = ["ORIGINAL", "PRIMARY"]
    item.SeriesDescription = "Lumbar spine lateral"
    item.InstanceNumber = 1
    item.BodyPartExamined = "LSPINE"
    item.ViewPosition = "LL"
    item.PatientOrientation = ["P", "F"]
    item.KVP = "80"
    width, height, _ = image.GetSpacing()
    item.ImagerPixelSpacing = _decimal([height, width])
    item.DistanceSourceToDetector = "1150"
    item.DistanceSourceToPatient = f"{1150 / MAGNIFICATION:.0f}"
    item.PixelSpacing = _decimal([height / MAGNIFICATION, width / MAGNIFICATION])
    item.PixelSpacingCalibrationType = "GEOMETRY"
    item.PixelSpacingCalibrationDescription = "Spine 15 cm before the detector"
    _pixels(item, sitk.GetArrayFromImage(image)[0], 12)
    return item


def _close(item: Dataset, uid: str) -> None:
    """Instance UID and file meta information."""
    item.SOPInstanceUID = uid
    item.file_meta = FileMetaDataset()
    item.file_meta.MediaStorageSOPClassUID = item.SOPClassUID
    item.file_meta.MediaStorageSOPInstanceUID = uid
    item.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    item.file_meta.ImplementationClassUID = _uid("implementation")


def write_datasets(items: list[Dataset], folder: str | Path, rng) -> int:
    """Write instances under meaningless, shuffled names, as archives do; returns how many."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    names = rng.permutation(len(items))
    for item, name in zip(items, names, strict=True):
        path = folder / f"{name // 100:02d}" / f"I{name:06d}"
        path.parent.mkdir(parents=True, exist_ok=True)
        item.save_as(path, enforce_file_format=True)
    return len(items)
