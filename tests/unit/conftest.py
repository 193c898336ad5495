"""A writer of small raw DICOM series with known geometry and pixels, for the ingest's tests."""

import pytest

from dicommake import DicomWriter


@pytest.fixture
def dicom_writer(tmp_path) -> DicomWriter:
    """A writer into ``<tmp>/dicom``."""
    folder = tmp_path / "dicom"
    folder.mkdir()
    return DicomWriter(folder)
