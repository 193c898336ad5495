"""What converters make of the cases A1 to A30 of a hard ingest, as a table for docs/results.md.

    python benchmarks/cases.py [A7 A12-order …]

Each case is a folder of made DICOM whose true volumes are known (tests/dicomcases.py). mrsynth,
SimpleITK, dcm2niix and dicom2nifti (benchmarks/requirements.txt) convert it, each case in a process
of its own with a limit of time and memory; benchmarks/judge.py compares every voxel in world
coordinates. Exit code 1 if mrsynth is wrong anywhere or does not do what the case expects.
"""

import hashlib
import importlib.metadata
import multiprocessing
import resource
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import judge
from readers import READERS

from dicomcases import CASES, Case
from dicommake import Maker

SECONDS = 120
"""A reader that needs longer for one of these small folders hangs."""
MEMORY = 4 << 30
"""Address space of a reader, in bytes: a file that asks for more must be refused."""
NOT_A_MESSAGE = {"", "TILT", "UNEVEN", "HU_RANGE"}
"""Codes of mrsynth that say what was done, or that the made values span 400 HU only."""


def main(names: list[str]) -> int:
    """Print the table; returns the exit code."""
    chosen = {n: c for n, c in CASES.items() if not names or n in names or c.number in names}
    rows, faults = [], []
    for name, case in chosen.items():
        cells = {reader: run(case, reader) for reader in READERS}
        rows.append((case, cells))
        faults += faults_of(name, case, cells["mrsynth"])
        print(name, {reader: cell[0] for reader, cell in cells.items()}, file=sys.stderr)
    print(table(rows))
    if not names:
        print("\n".join(repetition()))
    print("\n".join(["", *(f"FAULT {fault}" for fault in faults)]), file=sys.stderr)
    return int(bool(faults))


def run(case: Case, reader: str, seed: int = 1) -> tuple[str, list[str], str]:
    """Make a case and let one reader convert it.

    Returns:
        Verdict, messages, digest of the volumes.
    """
    context = multiprocessing.get_context("fork")
    receive, send = context.Pipe(duplex=False)
    process = context.Process(target=_work, args=(case, reader, seed, send))
    process.start()
    send.close()
    answer = ("crash", ["no answer in time"], "")
    try:
        receive.recv()  # The case is made; only the reader's own time counts.
        if receive.poll(SECONDS):
            answer = receive.recv()
    except EOFError:
        answer = ("crash", ["the process died"], "")
    if process.is_alive():
        process.kill()
    process.join()
    return answer


def _work(case: Case, reader: str, seed: int, send) -> None:
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "dicom"
        folder.mkdir()
        truths = case.make(Maker(folder, seed))
        send.send("made")
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        try:
            if reader == "mrsynth":
                output = READERS[reader](folder, case.options)
            else:
                output = READERS[reader](folder)
        except BaseException as error:
            output = judge.Output(messages=[type(error).__name__], crashed=True)
        result = judge.verdict(_spoken(output), truths)
        send.send((result, list(dict.fromkeys(output.messages)), digest(output)))


def _spoken(output: judge.Output) -> judge.Output:
    """Without the messages that say that all went well."""
    messages = [text for text in output.messages if text not in NOT_A_MESSAGE]
    return judge.Output(output.volumes, messages, output.crashed)


def digest(output: judge.Output) -> str:
    """Of all volumes and their places."""
    total = hashlib.sha256()
    for array, matrix in output.volumes:
        total.update(np.ascontiguousarray(array).tobytes() + matrix.tobytes())
    return total.hexdigest()[:12]


def faults_of(name: str, case: Case, cell: tuple) -> list[str]:
    """What mrsynth did other than the case expects."""
    result, messages, _ = cell
    if result != case.expect:
        return [f"{name}: {result} ({', '.join(messages)}) instead of {case.expect}"]
    if case.code and case.code not in messages:
        return [f"{name}: refused as {', '.join(messages)} instead of {case.code}"]
    return []


def table(rows: list[tuple[Case, dict]]) -> str:
    """The Markdown table with a count of verdicts and the versions."""
    lines = ["| case | folder | " + " | ".join(READERS) + " |", "|---|---|" + "---|" * len(READERS)]
    for case, cells in rows:
        texts = [cell_text(reader, cell) for reader, cell in cells.items()]
        lines.append(f"| {case.number} | {case.text} | " + " | ".join(texts) + " |")
    totals = [Counter(cells[reader][0] for _, cells in rows) for reader in READERS]
    for verdict in sorted({verdict for total in totals for verdict in total}):
        lines.append(f"| sum | {verdict} | " + " | ".join(str(t[verdict]) for t in totals) + " |")
    versions = ", ".join(f"{name} {version(name)}" for name in READERS)
    return "\n".join([*lines, "", f"Versions: {versions}."])


def cell_text(reader: str, cell: tuple) -> str:
    """A verdict, bold where a wrong volume came, with our reason code."""
    result, messages, _ = cell
    text = f"**{result}**" if result.startswith(("wrong", "crash")) else result
    codes = [code for code in messages if code.isupper() and code != "HU_RANGE"]
    if reader == "mrsynth" and codes and not result.startswith("wrong"):
        text += " " + ", ".join(f"`{code}`" for code in codes)
    return text


def version(name: str) -> str:
    """Version of a package, as installed."""
    return importlib.metadata.version(name)


def repetition() -> list[str]:
    """A30: the same slices under other names and in another order on disk."""
    lines = []
    for reader in READERS:
        same = 0
        for name in ("A1", "A7", "A12-order"):
            results = {run(CASES[name], reader, seed)[2] for seed in (1, 2, 3)}
            same += len(results) == 1
        lines.append(f"{reader}: {same} of 3 cases identical in three orders of files")
    return lines


if __name__ == "__main__":
    for reader in ("mrsynth.index", "mrsynth.convert", "SimpleITK", "nibabel", "dicom2nifti"):
        __import__(reader)
    sys.exit(main(sys.argv[1:]))
