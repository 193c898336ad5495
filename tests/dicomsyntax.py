"""Made DICOM in every transfer syntax that something here can write."""

import copy
import tempfile
from pathlib import Path

import numpy as np
import pydicom
from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from dicommake import close

SYNTAXES = {
    "implicit": ImplicitVRLittleEndian,
    "big-endian": ExplicitVRBigEndian,
    "deflated": DeflatedExplicitVRLittleEndian,
    "rle": RLELossless,
    "jpeg-2000": JPEG2000Lossless,
    "jpeg-ls": JPEGLSLossless,
    "jpeg-lossless": JPEGLosslessSV1,
}


def recoded(dataset: pydicom.Dataset, name: str) -> pydicom.Dataset:
    """The same slice in another transfer syntax; ``jpeg-2000-lossy`` changes its pixels."""
    dataset = copy.deepcopy(dataset)
    if name == "jpeg-lossless":
        return _by_gdcm(dataset)
    if name == "big-endian":
        dataset.PixelData = np.frombuffer(dataset.PixelData, "<u2").astype(">u2").tobytes()
    if name in ("implicit", "big-endian", "deflated"):
        close(dataset, SYNTAXES[name])
        return dataset
    close(dataset)
    if name == "jpeg-2000-lossy":
        dataset.compress(JPEG2000, j2k_cr=[20], generate_instance_uid=False)
        dataset.LossyImageCompression = "01"
    else:
        dataset.compress(SYNTAXES[name], generate_instance_uid=False)
    return dataset


def _by_gdcm(dataset: pydicom.Dataset) -> pydicom.Dataset:
    """JPEG lossless, selection value 1: only GDCM writes it here."""
    import gdcm

    close(dataset)
    with tempfile.TemporaryDirectory() as folder:
        plain, packed = Path(folder) / "plain", Path(folder) / "packed"
        dataset.save_as(plain, enforce_file_format=True)
        reader = gdcm.ImageReader()
        reader.SetFileName(str(plain))
        assert reader.Read()
        change = gdcm.ImageChangeTransferSyntax()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer = gdcm.ImageWriter()
        writer.SetFileName(str(packed))
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        assert writer.Write()
        dataset.PixelData = pydicom.dcmread(packed).PixelData
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = JPEGLosslessSV1
    return dataset
