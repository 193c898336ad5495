"""Four readers of a DICOM folder behind one function each: mrsynth and the three usual ones.

Each takes a folder and gives an :class:`judge.Output`, world coordinates in LPS mm.
"""

import contextlib
import logging
import re
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
from judge import Output

RAS_TO_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
WARNING = re.compile(r"warn|error|unsupported|missing|not all|inconsisten|unable|skip", re.I)
KEY = bytes(range(32))


def mrsynth(folder: Path, options: dict | None = None) -> Output:
    """`index` and `convert` as the workflow runs them, with its default settings."""
    from mrsynth import index, volume
    from mrsynth.convert import convert
    from mrsynth.errors import Refusal

    options = options or {}
    found = index.scan([folder], key=KEY, **options.get("index", {}))
    states = found.files["state"].isin(["used", "skipped", "refused"])
    assert states.all(), "a file without a state"
    output = Output()
    output.messages = sorted(
        {code for code in [*found.files["code"], *found.series["code"]] if code}
    )
    for name in found.series[found.series["status"] == "used"]["series"]:
        table = found.private[name]
        for stack in sorted(set(table["stack"])):
            try:
                image, record = convert(
                    table[table["stack"] == stack], **options.get("convert", {})
                )
            except Refusal as refusal:
                output.messages.append(refusal.code)
                continue
            output.messages += record["warnings"]
            output.volumes.append((volume.to_array(image), volume.affine(image)))
    return output


def simpleitk(folder: Path) -> Output:
    """Each series' file names from GDCM, read by SimpleITK's series reader."""
    import SimpleITK as sitk

    output = Output()
    with _heard(output):
        reader = sitk.ImageSeriesReader()
        folders = sorted({path.parent for path in folder.rglob("*") if path.is_file()})
        for place in folders or [folder]:
            for series in reader.GetGDCMSeriesIDs(str(place)):
                reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(place), series))
                try:
                    image = reader.Execute()
                except RuntimeError as error:
                    output.messages.append(f"exception: {_short(str(error))}")
                    continue
                output.volumes += _of_image(image)
    return output


def _of_image(image) -> list:
    import SimpleITK as sitk

    matrix = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(image.GetDimension(), -1)[:3, :3]
    matrix[:3, :3] = direction * image.GetSpacing()[:3]
    matrix[:3, 3] = image.GetOrigin()[:3]
    array = sitk.GetArrayFromImage(image)
    if image.GetDimension() == 4:
        return [(part, matrix) for part in array]
    return [(array, matrix)]


def dcm2niix(folder: Path, *options: str) -> Output:
    """The program's whole process with its default settings, NIfTI without compression."""
    output = Output()
    with tempfile.TemporaryDirectory() as place:
        command = ["dcm2niix", "-z", "n", "-b", "n", "-d", "9", *options, "-o", place, str(folder)]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace")
        text = done.stdout + done.stderr
        output.messages = [_short(line) for line in text.splitlines() if WARNING.search(line)]
        output.crashed = done.returncode < 0
        if done.returncode > 0:
            output.messages.append(f"exit code {done.returncode}")
        output.volumes = _read_nifti(place)
    return output


def dicom2nifti(folder: Path) -> Output:
    """`convert_directory` without reorientation or compression."""
    import dicom2nifti as library

    output = Output()
    with tempfile.TemporaryDirectory() as place, _heard(output):
        try:
            library.convert_directory(str(folder), place, compression=False, reorient=False)
        except Exception as error:
            output.messages.append(f"exception: {type(error).__name__}")
        output.volumes = _read_nifti(place)
    return output


def _read_nifti(folder: str) -> list:
    import nibabel

    volumes = []
    for path in sorted(Path(folder).rglob("*.nii")):
        image = nibabel.load(path)
        data = np.asanyarray(image.dataobj)
        if data.dtype.names:
            data = np.stack([data[name] for name in data.dtype.names], axis=-1)[:, :, :, None]
            parts = [data[:, :, :, 0].transpose(2, 1, 0, 3)]
        else:
            data = data.reshape(*data.shape[:3], -1) if data.ndim > 3 else data[..., None]
            data = data[:, :, None] if data.ndim == 3 else data
            parts = [data[..., number].T for number in range(data.shape[-1])]
        volumes += [(part, RAS_TO_LPS @ image.affine) for part in parts]
    return volumes


@contextlib.contextmanager
def _heard(output: Output):
    """Collect warnings, log records and what a C++ library writes to standard error."""
    import os

    records: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: records.append(str(record.msg))
    root = logging.getLogger()
    root.addHandler(handler)
    saved = os.dup(2)
    sys.stderr.flush()
    with tempfile.TemporaryFile() as spoken, warnings.catch_warnings(record=True) as caught:
        os.dup2(spoken.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
            root.removeHandler(handler)
            spoken.seek(0)
            text = spoken.read().decode(errors="replace")
    lines = [line for line in text.splitlines() if WARNING.search(line)]
    heard = [*records, *(str(item.message) for item in caught), *lines]
    output.messages += [_short(line) for line in heard]


def _short(text: str) -> str:
    """One line of a message, without paths."""
    text = " ".join(re.sub(r"\S*/\S*", "…", text).split())
    return text[:120]


READERS = {
    "mrsynth": mrsynth,
    "SimpleITK": simpleitk,
    "dcm2niix": dcm2niix,
    "dicom2nifti": dicom2nifti,
}
