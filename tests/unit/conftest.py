"""A writer of small raw DICOM series with known geometry and pixels, for the ingest's tests."""

from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.uid import ExplicitVRLittleEndian

ROOT_UID = "1.2.826.0.1.3680043.10.1338."
CLASSES = {"CT": "1.2.840.10008.5.1.4.1.1.2", "MR": "1.2.840.10008.5.1.4.1.1.4"}
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)


class DicomWriter:
    """Writes slices into one folder; every series, study and instance gets a UID of its own."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.count = 0

    def uid(self) -> str:
        """A new UID."""
        self.count += 1
        return f"{ROOT_UID}{self.count}"

    def dataset(self, pixels=None, *, modality="MR", drop=(), **elements) -> pydicom.Dataset:
        """One slice as a dataset; ``elements`` overwrite, ``drop`` removes."""
        pixels = np.arange(20, dtype=np.int16).reshape(4, 5) if pixels is None else pixels
        dataset = pydicom.Dataset()
        values = {
            "SOPClassUID": CLASSES[modality],
            "SOPInstanceUID": self.uid(),
            "SeriesInstanceUID": f"{ROOT_UID}0.1",
            "StudyInstanceUID": f"{ROOT_UID}0.2",
            "FrameOfReferenceUID": f"{ROOT_UID}0.3",
            "PatientID": "patient-1",
            "PatientName": "Canary^Name",
            "PatientSex": "F",
            "PatientAge": "061Y",
            "StudyDate": "20240105",
            "Modality": modality,
            "ImageType": ["ORIGINAL", "PRIMARY", "M"],
            "SeriesDescription": "series",
            "Manufacturer": "SIEMENS",
            "ManufacturerModelName": "Avanto",
            "ImagePositionPatient": [0.0, 0.0, 0.0],
            "ImageOrientationPatient": list(AXIAL),
            "PixelSpacing": [2.0, 1.5],
            "SliceThickness": 4.0,
            "Rows": pixels.shape[0],
            "Columns": pixels.shape[1],
            "SamplesPerPixel": 1,
            "PhotometricInterpretation": "MONOCHROME2",
            "BitsAllocated": 16,
            "BitsStored": 16,
            "HighBit": 15,
            "PixelRepresentation": 1,
        }
        if modality == "CT":
            values |= {"RescaleSlope": 1, "RescaleIntercept": 0, "KVP": 120}
        else:
            values |= {"RepetitionTime": 4000, "EchoTime": 100, "ScanningSequence": "SE"}
        for name, value in (values | elements).items():
            if name not in drop:
                setattr(dataset, name, value)
        dataset.PixelData = np.ascontiguousarray(pixels).astype("<i2").tobytes()
        return dataset

    def save(self, dataset: pydicom.Dataset, name: str | None = None) -> Path:
        """Write a dataset as a file with preamble."""
        path = self.folder / (name or f"{self.count:05d}.dcm")
        path.parent.mkdir(parents=True, exist_ok=True)
        if not hasattr(dataset, "file_meta"):
            dataset.file_meta = pydicom.dataset.FileMetaDataset()
            dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.save_as(path, enforce_file_format=True)
        return path

    def write(self, pixels=None, *, name=None, **elements) -> Path:
        """Make and write one slice."""
        return self.save(self.dataset(pixels, **elements), name)

    def stack(self, heights, *, orientation=AXIAL, origin=(0, 0, 0), pixels=None, **elements):
        """One slice per height (mm along the normal above the origin); returns the paths."""
        axes = np.array(orientation).reshape(2, 3)
        normal = np.cross(*axes)
        paths = []
        for number, height in enumerate(heights):
            elements["ImagePositionPatient"] = [
                float(f"{value:.6f}") for value in np.array(origin) + height * normal
            ]
            elements["ImageOrientationPatient"] = [float(f"{value:.9f}") for value in orientation]
            plane = None if pixels is None else pixels[number]
            paths.append(self.write(plane, **elements))
        return paths


@pytest.fixture
def dicom_writer(tmp_path) -> DicomWriter:
    """A writer into ``<tmp>/dicom``."""
    folder = tmp_path / "dicom"
    folder.mkdir()
    return DicomWriter(folder)
