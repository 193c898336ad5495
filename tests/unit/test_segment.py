"""TotalSegmentator's command line and its label map, with a program that plays it."""

import sys

import pytest

from mrsynth.errors import Refusal, StudyError
from mrsynth.segment import CLASSES, command, segment


def player(tmp_path, body):
    """A program that runs some Python with the arguments of TotalSegmentator."""
    path = tmp_path / "TotalSegmentator"
    path.write_text(f"#!{sys.executable}\nimport sys\nfrom pathlib import Path\n{body}\n")
    path.chmod(0o755)
    return str(path)


def test_command_line():
    line = command("ct.nii.gz", "labels.nii.gz", "TotalSegmentator", "gpu:1", fast=True)
    assert line[:5] == ["TotalSegmentator", "-i", "ct.nii.gz", "-o", "labels.nii.gz"]
    assert {"--ml", "--fast"} <= set(line)
    assert line[line.index("--device") + 1] == "gpu:1"
    assert line[line.index("--roi_subset") + 1 :] == list(CLASSES)
    assert "--fast" not in command("a", "b", "TotalSegmentator", "cpu", fast=False)
    assert {"sacrum", "vertebrae_S1", "vertebrae_L5", "vertebrae_T12"} <= set(CLASSES)


def test_it_gets_the_files_and_its_labels_are_kept(tmp_path):
    program = player(
        tmp_path,
        "source, target = (Path(sys.argv[sys.argv.index(key) + 1]) for key in ('-i', '-o'))\n"
        "target.write_text(source.read_text())",
    )
    (tmp_path / "ct's file.nii.gz").write_text("voxels")
    segment(tmp_path / "ct's file.nii.gz", tmp_path / "labels.nii.gz", program)
    assert (tmp_path / "labels.nii.gz").read_text() == "voxels"


@pytest.mark.parametrize("body", ["sys.exit(3)", "pass"])
def test_a_failure_refuses_the_subject(tmp_path, body):
    with pytest.raises(Refusal, match=r"SEGMENTATION_FAILED.*no label map.*Remedy"):
        segment(tmp_path / "ct.nii.gz", tmp_path / "labels.nii.gz", player(tmp_path, body))


def test_an_absent_program_names_the_key(tmp_path):
    with pytest.raises(StudyError, match=r"segment\.executable.*no-such.*locate\.source"):
        segment(tmp_path / "ct.nii.gz", tmp_path / "labels.nii.gz", "no-such-program")
