"""Trees of volume files: which image of whom each file is."""

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from mrsynth import index, volume, volumes
from mrsynth.convert import convert, convert_stack, read_files
from mrsynth.errors import StudyError

SHARED = Path(__file__).parents[3] / "shared/data"
KEY = bytes(32)
HEAD = "\t".join(volumes.SHEET_COLUMNS)


def image(origin=(-10, 20, 30), spacing=(1.0, 1.0, 4.0)) -> sitk.Image:
    values = np.arange(6 * 7 * 8, dtype=np.int16).reshape(6, 7, 8)
    made = volume.from_array(values, np.diag([*spacing, 1.0]))
    made.SetOrigin(origin)
    return made


@pytest.fixture
def tree(tmp_path) -> Path:
    """A BIDS tree of two subjects with a label map, a derived image and texts beside them."""
    root = tmp_path / "bids"
    for name in (
        "sub-01/anat/sub-01_T1w.nii.gz",
        "sub-01/anat/sub-01_acq-ax_run-2_T2w.nii.gz",
        "sub-01/ct/sub-01_ct.nii.gz",
        "sub-02/ses-b/anat/sub-02_ses-b_STIR.mha",
        "sub-02/ses-b/anat/sub-02_ses-b_ce-gd_T1w.nrrd",
        "sub-02/ses-a/ct/sub-02_ses-a_ct.nii",
        "sub-02/ses-a/ct/sub-02_ses-a_seg-spine_ct.nii.gz",
        "sub-02/ses-a/ct/sub-02_ses-a_part-phase_T2w.nii.gz",
        "derivatives/sub-02_space-mni_T1w.nii.gz",
        "sub-02/anat/labels.nii.gz",
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(image(), str(root / name))
    sidecar = {"RepetitionTime": 3.5, "EchoTime": 0.1, "MagneticFieldStrength": 1.5}
    sidecar |= {
        "Manufacturer": "Siemens Healthineers",
        "PatientName": "Canary",
        "SliceThickness": 3,
    }
    (root / "sub-01/anat/sub-01_acq-ax_run-2_T2w.json").write_text(json.dumps(sidecar))
    people = "participant_id\tage\tsex\nsub-01\t61.4\tfemale\nsub-02\t97\tM\n"
    (root / "participants.tsv").write_text(people)
    (root / "README").write_text("Canary")
    return root


def scan(*roots, sheet=None, **options) -> index.Index:
    return index.scan([], key=KEY, volume_roots=roots, volume_sheet=sheet, **options)


def lines(tmp_path, *rows) -> list[dict]:
    path = tmp_path / "volumes.tsv"
    path.write_text("\n".join([HEAD, *("\t".join(row) for row in rows)]) + "\n")
    return volumes.read_sheet(path)


def line(path, subject, **cells) -> list[str]:
    return [
        {"path": path, "subject": subject}.get(n, cells.get(n, "")) for n in volumes.SHEET_COLUMNS
    ]


def test_bids_names_tell_who_and_what(tree):
    found = scan(tree)
    series = found.series
    assert series["status"].tolist() == ["used"] * 6
    kinds = sorted(zip(series["modality"], series["weighting"], series["contrast"], strict=True))
    assert kinds == [
        ("CT", "", ""),
        ("CT", "", ""),
        ("MR", "STIR", ""),
        ("MR", "T1", ""),
        ("MR", "T1", "yes"),
        ("MR", "T2", ""),
    ]
    assert series["subject"].nunique() == 2
    assert series["study"].nunique() == 3
    assert set(series["plane"]) == {"axial"}
    assert set(series["spacing_mm"]) == {"4"}
    assert (series["frame"] == "").all()
    t2 = series[series["weighting"] == "T2"].iloc[0]
    assert (t2["tr_ms"], t2["te_ms"], t2["field_t"]) == ("3500", "100", "1.5")
    assert (t2["thickness_mm"], t2["extent_mm"], t2["manufacturer"]) == ("3", "23", "Siemens")
    assert (t2["rows"], t2["columns"], t2["slices"]) == ("7", "8", "6")
    codes = found.files["code"].value_counts().to_dict()
    assert codes == {"": 6, "NOT_LISTED": 4, "NOT_VOLUME": 3}
    assert len(found.files) == sum(path.is_file() for path in tree.rglob("*"))
    assert sorted(set(found.persons["age_years"])) == ["61", "90"]
    assert sorted(set(found.persons["sex"])) == ["F", "M"]
    public = found.series.to_csv() + found.files.to_csv()
    assert "Canary" not in public
    assert "sub-01" not in public


def test_a_listed_volume_converts_into_the_same_volume(tree, tmp_path):
    found = scan(tree)
    index.write_index(found, tmp_path / "s.tsv", tmp_path / "f.tsv", tmp_path / "private")
    for name in found.private:
        rows = read_files(tmp_path / f"private/index/{name}.tsv", 1)
        made = convert_stack(rows)
        assert made.image.GetSize() == (8, 7, 6)
        assert np.allclose(made.image.GetOrigin(), (-10, 20, 30))
        assert (volume.to_array(made.image) == volume.to_array(image())).all()
    record = convert(
        found.private[found.series[found.series["weighting"] == "T2"]["series"].iloc[0]]
    )
    assert record[1]["weighting"] == "T2"
    assert record[1]["thickness_mm"] == 3.0


def test_the_sheet_outranks_the_name_and_lists_what_has_none(tree, tmp_path):
    sheet = lines(
        tmp_path,
        line("sub-02/anat/labels.nii.gz", "02", modality="MR", weighting="PD", day="4", age="50"),
        line("sub-01/anat/sub-01_T1w.nii.gz", "01", weighting="PD", plane="coronal", fatsat="yes"),
    )
    series = scan(tree, sheet=sheet).series
    assert (series["weighting"] == "PD").sum() == 2
    one = series[series["plane"] == "coronal"].iloc[0]
    assert (one["fatsat"], one["slices"], one["spacing_mm"]) == ("yes", "7", "1")


def test_only_the_sheet_makes_two_volumes_share_a_frame(tmp_path):
    root = tmp_path / "tree"
    root.mkdir()
    places = {"a": (0, 0, 0), "b": (0, 0, 0), "c": (-10, 20, 30), "d": (-12, 20, 30)}
    for name, origin in places.items():
        sitk.WriteImage(image(origin), str(root / f"{name}.nii.gz"))
    rows = [line(f"{name}.nii.gz", "p", modality="MR", frame="one") for name in places]
    series = scan(root, sheet=lines(tmp_path, *rows)).series
    frames = dict(zip(series["code"] + series["start_mm"], series["frame"], strict=True))
    # Zero origins share with each other (one grid), the others by the sheet's word.
    assert series["frame"].nunique() == 2
    assert len(frames) == 2
    rows = [line(f"{name}.nii.gz", "p", modality="MR") for name in places]
    assert set(scan(root, sheet=lines(tmp_path, *rows)).series["frame"]) == {""}
    rows = [line(f"{n}.nii.gz", p, modality="MR", frame="one") for n, p in (("c", "p"), ("d", "q"))]
    assert scan(root, sheet=lines(tmp_path, *rows)).series["frame"].nunique() == 2


def test_links_join_labels_with_patient_ids(tree, dicom_writer):
    dicom_writer.stack(range(4))
    links = {"patient-1": "one", "01": "one"}
    found = index.scan([dicom_writer.folder], key=KEY, volume_roots=[tree], links=links)
    assert found.series["subject"].nunique() == 2
    assert len(found.series) == 7


def two_trees(tmp_path, label: str) -> list[Path]:
    """Two data sets with one image each, of the same label."""
    roots = [tmp_path / "first", tmp_path / "second"]
    for root, suffix in zip(roots, ("ct", "T2w"), strict=True):
        root.mkdir()
        sitk.WriteImage(image(), str(root / f"sub-{label}_{suffix}.nii.gz"))
    return roots


def test_one_label_in_two_data_sets_is_no_person(tmp_path):
    roots = two_trees(tmp_path, "01")
    with pytest.raises(StudyError, match=r"person '01' occurs below .*first and .*second"):
        scan(*roots)
    assert scan(*roots, links={"01": "one"}).series["subject"].nunique() == 1
    parted = lines(tmp_path, line("sub-01_T2w.nii.gz", "second-01"))
    assert scan(*roots, sheet=parted).series["subject"].nunique() == 2
    joined = lines(tmp_path, line("sub-01_T2w.nii.gz", "01"))
    assert scan(*roots, sheet=joined).series["subject"].nunique() == 1


def test_a_label_that_may_be_a_name_is_not_quoted(tmp_path):
    with pytest.raises(StudyError, match=r"person \(not shown") as caught:
        scan(*two_trees(tmp_path, "meier"))
    assert "meier" not in str(caught.value)


def test_days_of_a_sheet_do_not_mix_with_dates_of_headers(tmp_path, dicom_writer):
    dicom_writer.stack(range(4))
    root = tmp_path / "tree"
    root.mkdir()
    for name in "ab":
        sitk.WriteImage(image(), str(root / f"{name}.nii.gz"))
    sheet = lines(
        tmp_path,
        line("a.nii.gz", "patient-1", modality="CT", day="2"),
        line("b.nii.gz", "other", modality="CT", day="2"),
    )
    found = index.scan([dicom_writer.folder], key=KEY, volume_roots=[root], volume_sheet=sheet)
    days = found.series.set_index(["modality", "subject"])["day"].to_dict()
    assert sorted(days.values()) == ["", "0", "0"]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        (line("nowhere.nii.gz", "Canary", modality="CT"), "line 2: no such file"),
        (line("a.nii.gz", "Canary", modality="PET"), "modality"),
        (line("a.nii.gz", "Canary", modality="MR", weighting="T3"), "weighting"),
        (line("a.nii.gz", "Canary", modality="MR", plane="flat"), "plane"),
        (line("a.nii.gz", "Canary", modality="MR", day="1.5"), "day"),
        (line("a.nii.gz", "Canary", modality="MR", age="old"), "age"),
        (line("a.nii.gz", "Canary", modality="MR", sex="x"), "sex"),
        (line("a.nii.gz", "", modality="MR"), "subject"),
    ],
)
def test_mistakes_in_the_sheet_are_told_by_line_without_names(tmp_path, row, said):
    root = tmp_path / "tree"
    root.mkdir()
    sitk.WriteImage(image(), str(root / "a.nii.gz"))
    with pytest.raises(StudyError) as error:
        scan(root, sheet=lines(tmp_path, row))
    assert said in str(error.value)
    assert "line 2" in str(error.value)
    assert "Canary" not in str(error.value)


def test_unknown_columns_and_double_lines_are_told(tmp_path):
    path = tmp_path / "volumes.tsv"
    path.write_text("path\tsubjct\na\tb\n")
    with pytest.raises(StudyError, match="column 2 is unknown"):
        volumes.read_sheet(path)
    root = tmp_path / "tree"
    root.mkdir()
    sitk.WriteImage(image(), str(root / "a.nii.gz"))
    row = line("a.nii.gz", "p", modality="MR")
    with pytest.raises(StudyError, match="line 3"):
        scan(root, sheet=lines(tmp_path, row, row))


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(StudyError, match="nowhere"):
        scan(tmp_path / "nowhere")


def test_bad_files_are_refused_and_the_others_go_on(tree):
    (tree / "sub-01/ct/sub-01_ct.nii.gz").write_bytes(b"<html>Canary</html>")
    (tree / "sub-01/ct/sub-01_run-2_ct.mhd").write_text("ElementDataFile = /etc/passwd\n")
    found = scan(tree)
    assert found.series["status"].value_counts().to_dict() == {"used": 5, "refused": 1}
    refused = found.series[found.series["status"] == "refused"].iloc[0]
    assert (refused["code"], refused["modality"]) == ("CORRUPT", "CT")
    assert "Canary" not in found.series.to_csv()
    assert sorted(found.files["state"].unique()) == ["refused", "skipped", "used"]
    assert (found.files["code"] == "UNSUPPORTED_TYPE").sum() == 1


@pytest.mark.parametrize(
    "text", ["{", "[1]", '{"RepetitionTime": "x", "EchoTime": null}', "[" * 5000]
)
def test_odd_sidecars_say_nothing(tree, text):
    (tree / "sub-01/anat/sub-01_acq-ax_run-2_T2w.json").write_text(text)
    series = scan(tree).series
    assert set(series[series["weighting"] == "T2"]["tr_ms"]) == {""}


def test_a_zipped_tree_is_the_same_tree(tree, tmp_path):
    packed = tmp_path / "packed"
    packed.mkdir()
    with zipfile.ZipFile(packed / "bids.zip", "w") as archive:
        for path in tree.rglob("*"):
            if path.is_file():
                archive.write(path, path.relative_to(tree))
    found = scan(packed)
    assert len(found.series) == 6
    assert set(found.series["status"]) == {"used"}
    for table in found.private.values():
        assert (volume.to_array(convert(table)[0]) == volume.to_array(image())).all()


def test_the_index_is_the_same_every_time(tree):
    one, two = scan(tree), scan(tree)
    assert one.series.equals(two.series)
    assert one.files.equals(two.files)


@pytest.mark.shared
def test_public_data_without_a_place_share_no_frame(tmp_path):
    """RIRE's CT and T1 have one affine and lie 43 mm apart; one of TUM01's has lost its place."""
    if not (SHARED / "lpm_TUM01").is_dir():
        pytest.skip("no ../shared")
    names = {
        "rire_001/ct_example.nii.gz": ("rire", "CT"),
        "rire_001/mri_t1_example.nii.gz": ("rire", "MR"),
        "lpm_TUM01/TUM01_fat_img_img_L2-L5.nii.gz": ("tum", "MR"),
        "lpm_TUM01/TUM01_water_img_img_L2-L5.nii.gz": ("tum", "MR"),
        "lumbar_t1_t2/t1.nii.gz": ("lumbar", "MR"),
        "lumbar_t1_t2/t2.nii.gz": ("lumbar", "MR"),
    }
    rows = [
        line(name, subject, modality=modality, frame="" if subject == "rire" else "one")
        for name, (subject, modality) in names.items()
    ]
    series = scan(*sorted({SHARED}), sheet=lines(tmp_path, *rows)).series
    assert set(series["status"]) == {"used"}
    frames = series.groupby("subject")["frame"].agg(list).tolist()
    assert sorted(len(set(found)) for found in frames) == [1, 1, 2]
    assert sorted(len([name for name in found if name]) for found in frames) == [0, 2, 2]
    assert (series["code"] == "NO_ORIGIN").sum() == 5
