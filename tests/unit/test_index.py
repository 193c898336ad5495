"""The index: every file in one state, every series in one row, identities nowhere."""

import inspect
import json
import os
import runpy
import shutil
import stat
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pydicom
import pytest
import yaml

from mrsynth import index, pseudonym
from mrsynth.convert import convert
from mrsynth.errors import StudyError

SCHEMA = Path(__file__).parents[2] / "workflow/schemas/index.schema.yaml"
KEY = bytes(range(32))
CORONAL = (1.0, 0, 0, 0, 0, -1)


def scan(writer, **options) -> index.Index:
    """Scan a writer's folder and check what must hold for any input."""
    found = index.scan([writer.folder], key=KEY, **options)
    check(found, sum(len(names) for _, _, names in os.walk(writer.folder)))
    return found


def check(found: index.Index, files: int) -> None:
    assert len(found.files) == files
    assert found.files["file"].is_unique
    assert set(found.files["state"]) <= {"used", "skipped", "refused"}
    for state, code in zip(found.files["state"], found.files["code"], strict=True):
        assert (code == "") == (state == "used")
    assert found.series["series"].is_unique
    used = found.series[found.series["status"] == "used"]
    assert set(found.private) == set(used["series"])
    listed = {path for table in found.private.values() for path in table["path"]}
    assert len(listed) == (found.files["state"] == "used").sum()
    for row in used.to_dict("records"):
        assert int(row["slices"]) == len(found.private[row["series"]])


def only(found: index.Index) -> dict:
    (row,) = found.series.to_dict("records")
    return row


def codes(found: index.Index) -> list[str]:
    return sorted(f"{row.state}:{row.code}" for row in found.files.itertuples())


def test_a_series_is_one_row(dicom_writer):
    dicom_writer.stack(3.0 * np.arange(6), modality="CT", ConvolutionKernel="B30f")
    row = only(scan(dicom_writer))
    expected = {
        "modality": "CT",
        "plane": "axial",
        "kind": "original",
        "status": "used",
        "code": "",
        "slices": "6",
        "stacks": "1",
        "rows": "4",
        "columns": "5",
        "spacing_mm": "3",
        "pixel_mm": "2",
        "thickness_mm": "4",
        "extent_mm": "19",
        "day": "0",
        "start_mm": "0",
        "kvp": "120",
        "kernel": "B30f",
        "manufacturer": "Siemens",
        "scanner": "Avanto",
        "contrast": "",
    }
    assert {name: row[name] for name in expected} == expected


def test_age_and_sex_are_for_the_private_folder_only(dicom_writer, tmp_path):
    dicom_writer.stack(range(4), modality="CT", PatientAge="095Y")
    found = scan(dicom_writer)
    assert not {"age_years", "sex"} & set(found.series.columns)
    (person,) = found.persons.to_dict("records")
    assert (person["age_years"], person["sex"]) == ("90", "F")
    assert person["subject"] == found.series["subject"][0]
    index.write_index(found, tmp_path / "s.tsv", tmp_path / "f.tsv", tmp_path / "private")
    path = tmp_path / "private/index/persons.tsv"
    assert path.stat().st_mode & 0o777 == 0o600
    assert "90\tF" in path.read_text()


def test_a_link_of_nobody_is_refused_by_its_line(dicom_writer, tmp_path):
    dicom_writer.stack(range(4))
    (tmp_path / "links.tsv").write_text("patient_id\tperson\npatient-1\tX\nmistyped-7\tX\n")
    with pytest.raises(StudyError, match="line 3") as caught:
        scan(dicom_writer, links=pseudonym.read_links(tmp_path))
    assert "mistyped" not in str(caught.value)


def test_links_by_folder_name_where_patient_ids_are_emptied(dicom_writer, tmp_path):
    folder = dicom_writer.folder
    for number, name in enumerate(("ct-17", "mr-04")):
        dicom_writer.folder = folder / name
        dicom_writer.stack(range(4), PatientID="", SeriesInstanceUID=f"1.2.{number}")
    dicom_writer.folder = folder
    (tmp_path / "links.tsv").write_text("patient_id\tperson\nct-17\tA\nmr-04\tA\n")
    apart = scan(dicom_writer, subject_from="folder").series
    joined = scan(dicom_writer, subject_from="folder", links=pseudonym.read_links(tmp_path)).series
    assert apart["subject"].nunique() == 2
    assert joined["subject"].nunique() == 1


def test_identities_and_texts_stay_out_of_the_public_tables(dicom_writer):
    names = (
        *("PatientID", "PatientName", "SeriesDescription", "ProtocolName", "SequenceName"),
        *("StationName", "StudyID", "InstitutionName", "Manufacturer", "ManufacturerModelName"),
        *(
            "ConvolutionKernel",
            "ContrastBolusAgent",
            "Modality",
            "AccessionNumber",
            "PatientComments",
        ),
    )
    dicom_writer.stack(
        range(4), modality="CT", **{name: f"Canary{i}" for i, name in enumerate(names)}
    )
    (dicom_writer.folder / "Canary.dcm").write_bytes(b"Canary")
    found = scan(dicom_writer)
    text = (found.series.to_csv() + found.files.to_csv()).lower()
    assert "canary" not in text
    assert "2024" not in text
    assert "1.2.826" not in text


def test_the_order_of_files_changes_nothing(dicom_writer, monkeypatch):
    dicom_writer.stack(range(5), origin=(0, 0, 0))
    dicom_writer.stack(range(5), SeriesInstanceUID="1.2.3", modality="CT", StudyDate="20240107")
    first = scan(dicom_writer)
    listing = index.dicom.list_files
    monkeypatch.setattr(index.dicom, "list_files", lambda root: listing(root)[::-1])
    second = scan(dicom_writer)
    assert first.series.equals(second.series)
    assert first.files.equals(second.files)
    for name, table in first.private.items():
        assert table.equals(second.private[name])


def test_days_count_from_the_subjects_first_study(dicom_writer):
    dicom_writer.stack(range(3), StudyDate="20231230")
    dicom_writer.stack(range(3), SeriesInstanceUID="1.2.3", StudyDate="20240101")
    dicom_writer.stack(range(3), SeriesInstanceUID="1.2.4", PatientID="b", StudyDate="")
    found = scan(dicom_writer).series
    assert sorted(found["day"]) == ["", "0", "2"]


def test_angled_blocks_of_one_series_are_stacks(dicom_writer):
    for number, angle in enumerate((-10, 0, 12)):
        cosine, sine = np.cos(np.radians(angle)), np.sin(np.radians(angle))
        orientation = (1, 0, 0, 0, cosine, sine)
        dicom_writer.stack(4.0 * np.arange(4), orientation=orientation, origin=(0, 0, -35 * number))
    found = scan(dicom_writer)
    row = only(found)
    assert (row["stacks"], row["plane"], row["slices"]) == ("3", "axial", "12")
    (table,) = found.private.values()
    assert table["stack"].tolist() == [1] * 4 + [2] * 4 + [3] * 4
    for _, part in table.groupby("stack"):
        assert np.allclose(np.diff(part["position_mm"]), 4.0, atol=1e-3)


def test_stacks_in_several_planes_are_mixed(dicom_writer):
    dicom_writer.stack(range(3))
    dicom_writer.stack(range(3), orientation=CORONAL)
    assert only(scan(dicom_writer))["plane"] == "mixed"


def test_echoes_of_one_series_are_rows_of_their_own(dicom_writer):
    for echo in (12.0, 96.0):
        dicom_writer.stack(range(6), EchoTime=echo, EchoNumbers=1)
    found = scan(dicom_writer).series
    assert sorted(zip(found["te_ms"], found["weighting"], found["slices"], strict=True)) == [
        ("12", "PD", "6"),
        ("96", "T2", "6"),
    ]


def test_repeated_measurements_are_split_by_their_number(dicom_writer):
    for number in (1, 2):
        planes = [np.full((4, 5), number, np.int16)] * 5
        dicom_writer.stack(range(5), AcquisitionNumber=number, pixels=planes)
    assert scan(dicom_writer).series["slices"].tolist() == ["5", "5"]


def test_missing_slice_refuses_the_series(dicom_writer):
    dicom_writer.stack(3.0 * np.delete(np.arange(10), 5))
    found = scan(dicom_writer)
    assert only(found)["code"] == "MISSING_SLICES"
    assert "6 mm" in only(found)["message"]
    assert codes(found) == ["refused:MISSING_SLICES"] * 9


def test_uneven_steps_are_refused_or_kept_for_convert(dicom_writer):
    heights = [0.0, 2.0, 4.0, 6.6, 8.0]
    planes = [np.full((4, 5), int(100 * height), np.int16) for height in heights]
    dicom_writer.stack(heights, pixels=planes)
    refused = scan(dicom_writer)
    assert (only(refused)["status"], only(refused)["code"]) == ("refused", "VARIABLE_SPACING")
    kept = scan(dicom_writer, uneven="keep")
    row = only(kept)
    assert (row["status"], row["code"], row["slices"]) == ("used", "VARIABLE_SPACING", "5")
    assert row["message"] == "steps between 1.4 and 2.6 mm in one stack"
    (table,) = kept.private.values()
    image, record = convert(table, uneven="resample")
    assert record["warnings"] == ["UNEVEN"]
    assert image.GetSpacing()[2] == pytest.approx(2.0)


def test_uneven_steps_kept_excuse_nothing_else(dicom_writer):
    dicom_writer.stack(3.0 * np.delete(np.arange(10), 5))
    assert only(scan(dicom_writer, uneven="keep"))["code"] == "MISSING_SLICES"


def test_redelivered_files_are_dropped(dicom_writer):
    paths = dicom_writer.stack(range(4))
    again = dicom_writer.folder / "again"
    again.mkdir()
    for path in paths:
        shutil.copy(path, again / path.name)
    found = scan(dicom_writer)
    assert codes(found) == ["skipped:DUPLICATE"] * 4 + ["used:"] * 4
    assert only(found)["slices"] == "4"


def test_the_same_slice_under_another_uid_is_dropped(dicom_writer):
    dicom_writer.stack([0, 1, 1, 2])
    assert codes(scan(dicom_writer)) == ["skipped:DUPLICATE"] + ["used:"] * 3


def test_other_pixels_at_the_same_place_are_refused(dicom_writer):
    planes = [np.full((4, 5), value, np.int16) for value in range(4)]
    dicom_writer.stack([0, 1, 1, 2], pixels=planes)
    assert only(scan(dicom_writer))["code"] == "DUPLICATE_POSITION"


def test_one_instance_with_two_contents_is_refused(dicom_writer):
    paths = dicom_writer.stack(range(4))
    dataset = pydicom.dcmread(paths[0])
    dataset.PixelData = bytes(40)
    dicom_writer.save(dataset, "other.dcm")
    assert only(scan(dicom_writer))["code"] == "DUPLICATE_CONFLICT"


@pytest.mark.parametrize("name", ["StudyInstanceUID", "FrameOfReferenceUID", "Modality"])
def test_mixed_series_are_refused(dicom_writer, name):
    dicom_writer.stack(range(3))
    other = "CT" if name == "Modality" else "1.2.3"
    more = {"RescaleSlope": 1, "RescaleIntercept": 0} if name == "Modality" else {}
    dicom_writer.stack(range(3, 6), **{name: other}, **more)
    assert only(scan(dicom_writer))["code"] == "INCONSISTENT_IDENTITY"


def test_two_patients_under_one_series_are_both_refused(dicom_writer):
    dicom_writer.stack(range(3))
    dicom_writer.stack(range(3), PatientID="patient-2")
    found = scan(dicom_writer).series
    assert found["code"].tolist() == ["INCONSISTENT_IDENTITY"] * 2
    assert found["subject"].is_unique


def test_localizers_and_stray_slices_leave_the_rest(dicom_writer):
    dicom_writer.stack(range(5))
    dicom_writer.stack([0], orientation=CORONAL, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    dicom_writer.stack([0], orientation=(0, 1, 0, 0, 0, -1))
    found = scan(dicom_writer)
    assert codes(found) == ["skipped:LOCALIZER", "skipped:STRAY_SLICE"] + ["used:"] * 5


def test_a_series_of_localizers_is_skipped(dicom_writer):
    for orientation in ((1, 0, 0, 0, 1, 0), CORONAL):
        dicom_writer.stack(range(3), orientation=orientation, SeriesDescription="Localizer 3-plane")
    row = only(scan(dicom_writer))
    assert (row["kind"], row["status"], row["code"]) == ("localizer", "skipped", "LOCALIZER")


def test_a_slice_of_another_size_is_refused(dicom_writer):
    dicom_writer.stack(range(3))
    dicom_writer.stack([3.0], pixels=[np.zeros((6, 5), np.int16)])
    assert only(scan(dicom_writer))["code"] == "INCONSISTENT_SIZE"


def test_a_cut_file_refuses_its_series_and_no_other(dicom_writer):
    paths = dicom_writer.stack(range(4))
    dicom_writer.folder = dicom_writer.folder / "b"
    dicom_writer.stack(range(4), SeriesInstanceUID="1.2.3")
    dicom_writer.folder = dicom_writer.folder.parent
    paths[3].write_bytes(paths[3].read_bytes()[:-5])
    found = scan(dicom_writer)
    assert sorted(found.series["status"]) == ["refused", "used"]
    assert codes(found) == ["refused:CORRUPT"] * 4 + ["used:"] * 4


def test_a_file_that_lost_its_header_refuses_the_series_of_its_folder(dicom_writer):
    paths = dicom_writer.stack(range(5))
    paths[4].write_bytes(b"")
    row = only(scan(dicom_writer))
    assert (row["status"], row["code"]) == ("refused", "CORRUPT")


def test_other_objects_are_skipped_and_counted(dicom_writer):
    dicom_writer.stack(range(3))
    dicom_writer.write(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", SeriesInstanceUID="1.2.3")
    (dicom_writer.folder / "notes.txt").write_text("x")
    assert codes(scan(dicom_writer)) == [
        "skipped:NOT_DICOM",
        "skipped:UNSUPPORTED_CLASS",
        "used:",
        "used:",
        "used:",
    ]


def test_linked_ids_are_one_subject(dicom_writer):
    dicom_writer.stack(range(3), PatientID="a")
    dicom_writer.stack(range(3), PatientID="b", SeriesInstanceUID="1.2.3")
    assert scan(dicom_writer).series["subject"].nunique() == 2
    assert scan(dicom_writer, links={"a": "x", "b": "x"}).series["subject"].nunique() == 1


def test_folders_can_name_the_subjects(dicom_writer):
    for name in ("p1", "p2"):
        dicom_writer.folder = dicom_writer.folder / name
        dicom_writer.stack(range(3), PatientID="", SeriesInstanceUID=dicom_writer.uid())
        dicom_writer.folder = dicom_writer.folder.parent
    assert set(scan(dicom_writer).series["code"]) == {"NO_PATIENT_ID"}
    found = scan(dicom_writer, subject_from="folder").series
    assert found["subject"].nunique() == 2
    assert set(found["status"]) == {"used"}


def test_one_folder_name_below_two_roots_is_no_person(dicom_writer, tmp_path):
    roots = [tmp_path / "a", tmp_path / "b"]
    for number, root in enumerate(roots):
        dicom_writer.folder = root / "01"
        dicom_writer.folder.mkdir(parents=True)
        dicom_writer.stack(range(3), SeriesInstanceUID=f"1.2.{number}")
        (root / "readme").write_text("not a scan")
    options = {"key": KEY, "subject_from": "folder"}
    with pytest.raises(StudyError, match=r"person '01' occurs below .*/a and .*/b \(1 such"):
        index.scan(roots, **options)
    assert index.scan(roots, **options, links={"01": "x"}).series["subject"].nunique() == 1
    assert len(index.scan(roots, key=KEY).series) == 2


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(StudyError, match="nowhere"):
        index.scan([tmp_path / "nowhere"], key=KEY)


def test_an_empty_folder_gives_empty_tables(tmp_path):
    found = index.scan([tmp_path], key=KEY)
    assert found.series.empty
    assert list(found.series.columns) == list(index.columns.SERIES_COLUMNS)
    check(found, 0)


def test_private_tables_change_only_with_their_content(dicom_writer, tmp_path):
    paths = dicom_writer.stack(range(3))
    dicom_writer.stack(range(3), SeriesInstanceUID="1.2.3")
    private = tmp_path / "private"

    def write():
        found = scan(dicom_writer)
        index.write_index(found, tmp_path / "series.tsv", tmp_path / "files.tsv", private)
        return {path.name: path.stat().st_mtime_ns for path in (private / "index").iterdir()}

    first = write()
    assert len(first) == 4
    assert {stat.S_IMODE(p.stat().st_mode) for p in (private / "index").iterdir()} == {0o600}
    assert stat.S_IMODE(private.stat().st_mode) == 0o700
    os.utime(paths[0])
    assert write() == first
    dataset = pydicom.dcmread(paths[0])
    dataset.EchoTime = 100.001
    dataset.save_as(paths[0])
    second = write()
    assert sum(second[name] != first[name] for name in first) == 1


def test_private_tables_of_series_that_are_gone_are_removed(dicom_writer, tmp_path):
    gone = dicom_writer.stack(range(3))
    dicom_writer.stack(range(3), SeriesInstanceUID="1.2.3")
    outputs = tmp_path / "series.tsv", tmp_path / "files.tsv", tmp_path / "private"
    index.write_index(scan(dicom_writer), *outputs)
    for path in gone:
        path.unlink()
    (tmp_path / "private/index/notes.tsv").write_text("mine")
    found = scan(dicom_writer)
    index.write_index(found, *outputs)
    left = {path.name for path in (tmp_path / "private/index").iterdir()}
    assert left == {"files.tsv", "persons.tsv", "notes.tsv", f"{only(found)['series']}.tsv"}


def test_schema_and_function_agree():
    properties = yaml.safe_load(SCHEMA.read_text())["properties"]
    parameters = inspect.signature(index.scan).parameters
    assert {key: entry["default"] for key, entry in properties.items()} == {
        key: parameter.default
        for key, parameter in parameters.items()
        if key not in ("roots", "key", "links", "threads", "cache")
        and not key.startswith("volume_")
    }


def run_adapter(dicom_writer, folder, **cfg):
    names = ("series.tsv", "files.tsv", "tree.json")
    roots = [str(dicom_writer.folder)]
    fake = SimpleNamespace(
        rule="index",
        input={},
        output={Path(name).stem: str(folder / name) for name in names},
        params=SimpleNamespace(cfg={"private": str(folder / "private")} | cfg),
        config={"dicom": roots},
        wildcards={},
        threads=1,
        resources=None,
        log=[str(folder / "log.txt")],
    )
    script = SCHEMA.parents[1] / "scripts/index.py"
    runpy.run_path(str(script), init_globals={"snakemake": fake})
    assert json.loads((folder / "tree.json").read_text()) == {"tree": index.manifest(roots)}
    return (folder / "series.tsv").read_text()


def test_adapter_ignores_the_digest_that_only_makes_it_run(dicom_writer, tmp_path):
    dicom_writer.stack(range(3))
    pseudonym.settle_key(tmp_path / "private", KEY.hex())
    text = run_adapter(dicom_writer, tmp_path, tree="0123", uneven="keep")
    assert text == scan(dicom_writer).series.to_csv(sep="\t", index=False, lineterminator="\n")


def test_manifest_sees_names_sizes_and_times(tmp_path):
    (tmp_path / "a").write_text("1")
    seen = [index.manifest([tmp_path])]
    assert seen[0] == index.manifest([tmp_path])
    os.utime(tmp_path / "a", (1, 1))
    seen.append(index.manifest([tmp_path]))
    (tmp_path / "b").write_text("2")
    seen.append(index.manifest([tmp_path]))
    (tmp_path / "b").rename(tmp_path / "c")
    seen.append(index.manifest([tmp_path]))
    assert len(set(seen)) == 4


@pytest.mark.shared
def test_real_trees_are_indexed():
    shared = Path(__file__).parents[3] / "shared/data"
    roots = [shared / "mridir", shared / "rire_001/dicom"]
    if not roots[0].is_dir():
        pytest.skip("no ../shared")
    found = index.scan(roots, key=KEY).series
    seen = sorted(zip(found["modality"], found["weighting"], found["slices"], strict=True))
    assert seen == [("CT", "", "103"), ("CT", "", "26"), ("MR", "T1", "26"), ("MR", "T2", "94")]
    assert set(found["plane"]) == {"axial"}
    assert found["subject"].nunique() == 2
    assert sorted(found["day"]) == ["0", "0", "2", "32"]


def test_a_series_without_any_readable_slice_has_no_age():
    found = index.columns.persons([{"subject": "A", "series": "ser-1"}])
    assert found.to_dict("records") == [
        {"subject": "A", "series": "ser-1", "age_years": "", "sex": ""}
    ]
