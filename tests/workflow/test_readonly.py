"""Ingestion writes nothing into the input's tree and needs no network.

As root, permissions bind nobody: there the tree is mounted read-only and the network is taken away
in namespaces of the process's own (util-linux `unshare`). Without root the permissions do it, and
the network goes where user namespaces are allowed. The tree's content, names and times are compared
in any case.
"""

import hashlib
import os
import shlex
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
import yaml

from dicommake import Grid, Maker

ROOT = Path(__file__).parents[2]
EXPORT = "export"


def write_tree(folder: Path) -> None:
    """A pair as files, another one in an archive, and files that are nothing."""
    for number in (1, 2):
        maker = Maker(folder, seed=number)
        maker.count = 1000 * number
        for modality in ("CT", "MR"):
            elements = {"PatientID": f"person-{number}", "StudyInstanceUID": f"1.2.{number}"}
            elements["FrameOfReferenceUID"] = f"1.2.{number}.{len(modality + modality[0])}"
            datasets = maker.series(Grid(), modality, **elements)
            maker.write_all(datasets, f"person-{number}/{modality}")
    with tarfile.open(folder / "person-2.tar.gz", "w:gz") as archive:
        archive.add(folder / "person-2", "person-2")
    shutil.rmtree(folder / "person-2")
    (folder / "readme.txt").write_text("nothing")


def state(folder: Path) -> dict[str, tuple]:
    """Name → content, permissions and time of change of everything in a folder."""
    found = {}
    for path in [folder, *sorted(folder.rglob("*"))]:
        status = path.lstat()
        content = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else ""
        found[str(path)] = (content, status.st_mode, status.st_mtime_ns)
    return found


def works(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=10).returncode == 0
    except OSError:
        return False


def enclosure(folder: Path) -> list[str]:
    """A command that runs another one with the folder read-only and no network, if possible."""
    place = shlex.quote(str(folder))
    mount = f"mount --bind {place} {place} && mount -o remount,ro,bind {place}"
    if os.geteuid() == 0 and works("unshare", "-m", "-n", "sh", "-c", mount):
        return ["unshare", "-m", "-n", "sh", "-c", f'{mount} && exec "$@"', "sh"]
    if works("unshare", "-r", "-n", "true"):
        return ["unshare", "-r", "-n"]
    return []


@pytest.fixture(scope="module")
def ran(tmp_path_factory, make_checkout):
    """The study after index, cohort and convert; the input's state before and after."""
    folder = tmp_path_factory.mktemp("readonly")
    config = yaml.safe_load((ROOT / "tests/data/tiny.yaml").read_text())
    del config["phantom"]
    config["dicom"] = [EXPORT]
    (folder / "study.yaml").write_text(yaml.safe_dump(config))
    study = folder / "study"
    study.mkdir()
    checkout = make_checkout(study, folder / "study.yaml")
    export = study / EXPORT
    write_tree(export)
    subprocess.run(["chmod", "-R", "a-w", str(export)], check=True)
    before = state(export)
    checkout.prefix = enclosure(export)
    checkout.snakemake("cohort")
    rows = (study / "results/cohort/cohort.tsv").read_text().splitlines()[1:]
    pairs = [row.split("\t")[1] for row in rows]
    checkout.snakemake(
        *(f"results/convert/sub-{s}_{image}.json" for s in pairs for image in ("ct", "t2ax"))
    )
    yield study, checkout.prefix, before, state(export)
    subprocess.run(["chmod", "-R", "u+w", str(export)], check=True)


def test_the_tree_is_as_it_was(ran):
    _, _, before, after = ran
    assert before == after


def test_the_volumes_were_made(ran):
    study, _, _, _ = ran
    volumes = list((study / "results/convert").glob("sub-????????_*[!d].nii.gz"))
    assert len(volumes) == 4
    assert all(path.stat().st_size > 1000 for path in volumes)


def test_the_tree_could_not_be_written_and_the_network_was_gone(ran):
    """The enclosure itself: without it the first test could pass by luck."""
    study, prefix, _, _ = ran
    if not prefix:
        pytest.skip("no namespaces here: the tree was compared, the network was there")
    touch = [*prefix, "touch", str(study / EXPORT / "new")]
    assert subprocess.run(touch, capture_output=True).returncode != 0
    code = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=2)"
    done = subprocess.run([*prefix, "python3", "-c", code], capture_output=True, text=True)
    assert "unreachable" in done.stderr
