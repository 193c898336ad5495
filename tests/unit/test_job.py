"""Adapters' outputs are whole or absent; refusals are records."""

import json
from types import SimpleNamespace

import pytest

from mrsynth import job
from mrsynth.errors import Refusal, StudyError


class Named(list):
    """A stand-in for Snakemake's named lists."""

    def __init__(self, **names):
        super().__init__(names.values())
        self.__dict__.update(names)
        self.names = names

    def items(self):
        return self.names.items()

    def keys(self):
        return self.names.keys()


def fake(tmp_path, inputs=(), **outputs):
    names = {"data": "data.npz", "record": "record.json"} | outputs
    return SimpleNamespace(
        input=Named(**{f"input{n}": str(path) for n, path in enumerate(inputs)}),
        output=Named(
            **{name: str(tmp_path / "out" / file) for name, file in names.items() if file}
        ),
        params=SimpleNamespace(cfg={"a": 1}),
        wildcards=Named(subject="ABCDEFGH"),
        threads=1,
        resources=None,
        log=[str(tmp_path / "logs/x.log")],
        rule="stage",
    )


def test_outputs_appear_together_and_leave_no_temporary(tmp_path):
    def work(now):
        assert not (tmp_path / "out/data.npz").exists()
        with open(now.output.data, "w") as handle:
            handle.write("whole")
        return {"n": 2}

    job.run(fake(tmp_path), work)
    assert (tmp_path / "out/data.npz").read_text() == "whole"
    record = json.loads((tmp_path / "out/record.json").read_text())
    assert record == {"stage": "stage", "subject": "ABCDEFGH", "status": "made", "n": 2}
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"data.npz", "record.json"}


def test_refusal_becomes_a_record_and_empty_files(tmp_path):
    def work(now):
        with open(now.output.data, "w") as handle:
            handle.write("half")
        raise Refusal("TOO_FEW", "2 of 3 slices", "send the third")

    job.run(fake(tmp_path, folder="stacks"), work)
    record = json.loads((tmp_path / "out/record.json").read_text())
    assert (record["status"], record["code"]) == ("refused", "TOO_FEW")
    assert (tmp_path / "out/data.npz").read_text() == ""
    assert list((tmp_path / "out/stacks").iterdir()) == []


def test_a_refused_input_is_passed_on_unread(tmp_path):
    upstream = tmp_path / "up.json"
    job.write_json({"status": "refused", "code": "X", "message": "m", "remedy": "r"}, upstream)

    def work(now):
        raise AssertionError("must not run")

    job.run(fake(tmp_path, inputs=[upstream]), work)
    record = json.loads((tmp_path / "out/record.json").read_text())
    assert (record["status"], record["code"], record["remedy"]) == ("refused", "X", "r")


@pytest.mark.parametrize("error", [StudyError("key 'a' = 1: bad"), ValueError("boom")])
def test_errors_fail_the_job_and_publish_nothing(tmp_path, error):
    def work(now):
        with open(now.output.data, "w") as handle:
            handle.write("half")
        raise error

    with pytest.raises(SystemExit) as stop:
        job.run(fake(tmp_path), work)
    assert stop.value.code == 1
    assert list((tmp_path / "out").iterdir()) == []
    assert str(error) in (tmp_path / "logs/x.log").read_text()


def test_traceback_withholds_what_may_quote_a_header(tmp_path):
    from pydicom.errors import InvalidDicomError

    name = "^".join(["Name", "Of", "Patient"])

    def work(now):
        raise InvalidDicomError(name)

    with pytest.raises(SystemExit):
        job.run(fake(tmp_path), work)
    assert name not in (tmp_path / "logs/x.log").read_text()


def test_json_holds_no_nan(tmp_path):
    job.write_json({"a": float("nan"), "b": [float("inf"), 1.5]}, tmp_path / "x.json")
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": None, "b": [None, 1.5]}
