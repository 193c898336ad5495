"""Vertebra labels by TotalSegmentator, run as the user has it installed.

Standard library only: with ``--sdm conda`` the job runs in an environment of its own.
"""

import logging
import shutil
import subprocess
from pathlib import Path

from mrsynth.errors import Refusal, StudyError

log = logging.getLogger("mrsynth")

# Names of version 2's task `total` (Wasserthal et al., Radiology AI 2023), from T9 down: what a
# lumbar scan can show.
CLASSES = (
    "sacrum",
    "vertebrae_S1",
    *(f"vertebrae_L{n}" for n in range(5, 0, -1)),
    *(f"vertebrae_T{n}" for n in range(12, 8, -1)),
)
# What is kept of the tool's own words in the log.
TAIL = 20


def command(
    ct: str | Path, labels: str | Path, executable: str, device: str, fast: bool
) -> list[str]:
    """The command line that writes one label map of the spine.

    Args:
        ct: CT, NIfTI.
        labels: Label map to write, ``.nii.gz``.
        executable: TotalSegmentator's name or path.
        device: ``cpu``, ``gpu`` or ``gpu:<n>``.
        fast: The 3 mm model instead of the one of 1.5 mm.
    """
    line = [executable, "-i", str(ct), "-o", str(labels), "--ml", "--device", device, "--quiet"]
    return [*line, *(["--fast"] if fast else []), "--roi_subset", *CLASSES]


def segment(
    ct: str | Path,
    labels: str | Path,
    executable: str = "TotalSegmentator",
    device: str = "cpu",
    fast: bool = False,
) -> None:
    """Write the vertebrae's label map (``totalsegmentator`` numbering) of a CT.

    Args:
        ct: Native CT in HU, NIfTI.
        labels: File to write, ``.nii.gz``.
        executable: TotalSegmentator's name or path; version 2.
        device: Where it computes: ``cpu``, ``gpu`` or ``gpu:<n>``.
        fast: Whether the 3 mm model is enough.

    Raises:
        StudyError: If the executable isn't there.
        Refusal: ``SEGMENTATION_FAILED`` if it fails or writes nothing.
    """
    if shutil.which(executable) is None:
        raise StudyError(
            f"config key 'segment.executable' = {executable!r} is no program on this machine; "
            "install TotalSegmentator (envs/totalsegmentator.yaml) or give its path, or set "
            "'locate.source' to auto"
        )
    done = subprocess.run(
        command(ct, labels, executable, device, fast), capture_output=True, text=True, check=False
    )
    for line in (done.stdout + done.stderr).splitlines()[-TAIL:]:
        log.info("TotalSegmentator: %s", line)
    if done.returncode or not Path(labels).is_file() or Path(labels).stat().st_size == 0:
        raise Refusal(
            "SEGMENTATION_FAILED",
            f"TotalSegmentator ended with code {done.returncode} and "
            + ("a" if Path(labels).is_file() else "no")
            + " label map",
            "read its words in this job's log; try it on another machine or with "
            "`segment.fast: true`, or give labels or landmarks for this subject",
        )
