"""Packs: places in mm after one resampling, letterbox, verdicts, and nothing from other roles."""

import inspect
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml

from mrsynth.crop import crop, read_npz, write_npz
from mrsynth.errors import StudyError
from mrsynth.job import read_json, write_json
from mrsynth.locate.landmarks import Disc, Landmarks
from mrsynth.pack import Range, assemble, crop_range, pack, screen, select
from mrsynth.pick import pick
from mrsynth.study import with_defaults
from mrsynth.volume import from_array, write_stacks
from mrsynth.window import to_grey_levels

WORKFLOW = Path(__file__).parents[2] / "workflow"


def crops(
    count=2, ventral=40.0, lateral=30.0, pixel=(0.5, 0.5), shape=(240, 240), sac=None, verdict=None
):
    """A crop file whose source is a plane in mm from the sac: 100 + 0.5·rows + 0.8·columns."""
    height, width = shape
    sac = np.array([height / 2 + 3.25, width / 2 - 1.5] if sac is None else sac, float)
    rows = (np.arange(height) - sac[0])[:, None] * pixel[0]
    columns = (np.arange(width) - sac[1])[None] * pixel[1]
    image = np.broadcast_to(100 + 0.5 * rows + 0.8 * columns, shape)
    body = (np.abs(rows) < 45) & (np.abs(columns) < 35)
    full = [count, *shape]
    return {
        "source": np.broadcast_to(image, full).astype(np.float32),
        "target": np.broadcast_to(200 - image, full).astype(np.float32),
        "body": np.broadcast_to(body, full).astype(np.uint8),
        "valid": np.ones(full, np.uint8),
        "pixel_mm": np.tile(np.float32(pixel), (count, 1)),
        "name": np.array([f"L{n + 1}-L{n + 2}" for n in range(count)]),
        "key": np.array([f"stack-{n + 1}_slice-02" for n in range(count)]),
        "verdict": np.array(verdict or ["accepted"] * count),
        "sac_px": np.tile(np.float32(sac), (count, 1)),
        "ventral_mm": np.full(count, ventral, np.float32),
        "lateral_mm": np.full(count, lateral, np.float32),
    }


def test_paper_range_holds_all_training_slices():
    range_ = crop_range([crops(ventral=40, lateral=24), crops(ventral=46, lateral=22)])
    assert range_ == Range(46.0, 46.0, 24.0, "sac")
    wider = crop_range([crops(ventral=40, lateral=24)], margin_mm=5)
    assert (wider.ventral_mm, wider.dorsal_mm, wider.lateral_mm) == (45, 45, 29)
    broad = crop_range([crops(ventral=40, lateral=24)], margin_mm=5, lateral_margin_mm=30)
    assert (broad.ventral_mm, broad.lateral_mm) == (45, 54)


def test_quantile_shuts_out_an_outlier():
    training = [crops(count=1, ventral=v) for v in [*range(30, 50), 500]]
    assert crop_range(training).ventral_mm == 500
    assert crop_range(training, quantile=0.95).ventral_mm == pytest.approx(49)


def test_body_and_field_ranges():
    body = crop_range([crops()], crop="body")
    assert body.anchor == "body"
    assert (body.ventral_mm, body.lateral_mm) == pytest.approx((45, 35), abs=0.5)
    whole = crop_range([crops(shape=(200, 160), pixel=(0.5, 0.75))], crop="none")
    assert whole == Range(50.0, 50.0, 60.0, "field")


def test_range_needs_measures_and_sane_settings():
    blind = crops() | {"ventral_mm": np.full(2, np.nan, np.float32)}
    with pytest.raises(StudyError, match="training slice has landmarks"):
        crop_range([blind])
    for wrong in ({"crop": "face"}, {"quantile": 0}, {"margin_mm": -1}):
        with pytest.raises(StudyError, match=f"{next(iter(wrong))}"):
            crop_range([crops()], **wrong)


@pytest.mark.parametrize("pixel", [(0.5, 0.5), (0.4, 0.9), (2.0, 1.5)])
@pytest.mark.parametrize("interpolation", ["linear", "cubic"])
def test_places_in_mm_survive_the_resampling(pixel, interpolation):
    shape = tuple(int(130 / p) for p in pixel)
    range_ = Range(40, 40, 40)
    packed = pack(
        [crops(pixel=pixel, shape=shape)],
        range_,
        subjects=["AAAAAAAA"],
        size=(64, 64),
        interpolation=interpolation,
    )
    assert packed["pixel_mm"].tolist() == [[1.25, 1.25]] * 2
    mm = (np.arange(64) - 31.5) * 1.25
    expected = 100 + 0.5 * mm[:, None] + 0.8 * mm[None]
    np.testing.assert_allclose(packed["source"][0], expected, atol=0.05)
    np.testing.assert_allclose(packed["target"][1], 200 - expected, atol=0.05)
    assert packed["valid"].all()
    assert packed["body"][0][32, 5] == 1
    assert packed["body"][0][32, 1] == 0


def test_letterbox_is_not_valid_and_the_sac_stays_where_it_is():
    range_ = Range(40, 40, 30)
    packed = pack([crops(count=1)], range_, subjects=["A"], size=(80, 100))
    columns = np.abs(np.arange(100) - 49.5) < 30
    np.testing.assert_array_equal(packed["valid"][0], np.tile(columns, (80, 1)))
    assert not packed["source"][0][:, ~columns].any()
    assert not packed["body"][0][:, ~columns].any()
    assert packed["source"][0][39:41, 49:51].mean() == pytest.approx(100, abs=0.05)
    tall = pack([crops(count=1)], range_, subjects=["A"], size=(120, 60))
    assert tall["valid"][0].sum() == 80 * 60
    assert tall["valid"][0][20:100].all()


def test_outside_the_crop_is_not_valid():
    packed = pack(
        [crops(count=1, shape=(100, 240))], Range(40, 40, 30), subjects=["A"], size=(80, 60)
    )
    rows = packed["valid"][0].all(axis=1)
    # The crop holds 100 rows of 0.5 mm, its sac at row 53.25: 26.6 mm above, 22.9 mm below.
    mm = np.arange(80) - 39.5
    np.testing.assert_array_equal(rows, (mm > -26.9) & (mm < 23.2))
    assert not packed["source"][0][~rows].any()


def test_large_pixels_average_instead_of_picking():
    noisy = crops(count=1)
    noisy["source"] = np.random.default_rng(3).uniform(60, 190, (1, 240, 240)).astype(np.float32)
    packed = pack([noisy], Range(40, 40, 40), subjects=["A"], size=(40, 40))
    # Pixels grow fourfold: plain linear interpolation would leave half of the noise.
    assert packed["source"].std() < 0.25 * noisy["source"].std()
    assert packed["source"].mean() == pytest.approx(125, abs=1)


def test_grey_stays_in_its_scale():
    sharp = crops(count=1)
    sharp["source"] = (np.indices((240, 240))[1] // 20 % 2 * 255)[None].astype(np.float32)
    packed = pack(
        [sharp], Range(40, 40, 40), subjects=["A"], size=(300, 300), interpolation="cubic"
    )
    assert packed["source"].min() >= 0
    assert packed["source"].max() <= 255


def test_empty_role_keeps_shapes_and_types():
    packed = pack([], Range(40, 40, 30), subjects=[], size=(80, 60))
    assert packed["source"].shape == (0, 80, 60)
    assert packed["pixel_mm"].shape == (0, 2)
    assert packed["subject"].shape == (0,)
    for name in ("subject", "name", "key", "verdict"):
        assert packed[name].dtype.kind == "U"
    kept, out = screen(packed, Range(40, 40, 30))
    assert kept["valid"].shape == (0, 80, 60)
    assert out == []


def test_verdicts_and_refusals_leave_slices_out_with_reasons():
    two = crops(verdict=["accepted", "review"])
    bad = crops(verdict=["failed", "failed"])
    records = [{}, {"code": "NO_SPINE", "message": "nothing"}, {}]
    kept, names, out = select([two, None, bad], ["A", "B", "C"], records=records)
    assert names == ["A"]
    assert kept[0]["key"].tolist() == ["stack-1_slice-02"]
    assert [(row["subject"], row["key"], row["code"]) for row in out] == [
        ("A", "stack-2_slice-02", "VERDICT"),
        ("B", "", "NO_SPINE"),
        ("C", "stack-1_slice-02", "VERDICT"),
        ("C", "stack-2_slice-02", "VERDICT"),
    ]
    kept, names, _ = select([two], ["A"], verdicts=["accepted", "review"])
    assert len(kept[0]["key"]) == 2
    for wrong in ("good", "failed"):
        with pytest.raises(StudyError, match=wrong):
            select([two], ["A"], verdicts=[wrong])


def test_slices_without_an_anchor():
    blind = crops() | {"sac_px": np.float32([[np.nan, np.nan], [120, 120]])}
    blind["body"] = blind["body"] * np.uint8([1, 0])[:, None, None]
    assert [row["code"] for row in select([blind], ["A"])[2]] == ["NO_LANDMARKS"]
    assert [row["code"] for row in select([blind], ["A"], crop="body")[2]] == ["EMPTY"]
    assert select([blind], ["A"], crop="none")[2] == []


def test_slices_outside_the_field_or_the_body():
    poor = crops(count=3)
    poor["valid"] = poor["valid"].copy()
    poor["valid"][0, :, 100:] = 0
    poor["body"] = poor["body"] * np.uint8([1, 0, 1])[:, None, None]
    range_ = Range(40, 40, 30)
    packed = pack([poor], range_, subjects=["A"], size=(80, 100))
    kept, out = screen(packed, range_)
    assert kept["key"].tolist() == ["stack-3_slice-02"]
    assert [row["code"] for row in out] == ["FIELD", "EMPTY"]
    assert len(screen(packed, range_, min_valid=0, min_body=0)[1]) == 0
    with pytest.raises(StudyError, match="min_valid"):
        screen(packed, range_, min_valid=50)


def study(train, others=(), role="test", **settings):
    names = {"subjects": [f"X{n}" for n in range(len(others))], "role": role}
    if role == "train":
        others, names["subjects"] = train, [f"T{n}" for n in range(len(train))]
    return assemble(
        list(others),
        [{"code": "GONE"} if c is None else {} for c in others],
        list(train),
        [{"code": "GONE"} if c is None else {} for c in train],
        train_subjects=[f"T{n}" for n in range(len(train))],
        task="t2",
        fold=0,
        size=(80, 60),
        **names,
        **settings,
    )


def test_visits_of_one_person_count_as_one_subject():
    names = ["AAAAAAAA", "AAAAAAAA_ses-204817", "BBBBBBBB"]
    cases = [crops(), crops(), crops()]
    _, record = assemble(
        *(cases, [{}] * 3, cases, [{}] * 3),
        subjects=names,
        train_subjects=names,
        task="t2",
        fold=0,
        size=(80, 60),
        role="train",
    )
    assert record["subjects"] == 2
    assert set(record["slices_by_subject"]) == set(names)


def test_test_subjects_change_neither_range_nor_training_file(tmp_path):
    training = [crops(ventral=40), crops(ventral=44)]
    huge = crops(ventral=300, lateral=300)
    _, plain = study(training, [crops()])
    _, mixed = study(training, [crops(), huge, None])
    assert plain["range"] == mixed["range"]
    assert plain["range"]["ventral_mm"] == 44
    for n, others in enumerate(([], [huge])):
        assert study(training, others)[1]["range"] == plain["range"]
        write_npz(study(training, role="train")[0], tmp_path / f"{n}.npz")
    assert (tmp_path / "0.npz").read_bytes() == (tmp_path / "1.npz").read_bytes()
    _, other = study([*training, huge], [crops()])
    assert other["range"]["ventral_mm"] == 300


def test_verdicts_apply_before_the_range_is_measured():
    wrong = crops(ventral=90, verdict=["failed", "review"])
    arrays, record = study([crops(ventral=40), wrong], role="train")
    assert record["range"]["ventral_mm"] == 40
    assert set(arrays["subject"].tolist()) == {"T0"}
    assert record["left_out_by_code"] == {"VERDICT": 2}
    judged = [{"subject": "T1", "stack": 2, "verdict": "accepted", "readers": 1}]
    arrays, record = study([crops(ventral=40), wrong], role="train", review=judged)
    assert record["range"]["ventral_mm"] == 90
    assert record["slices"] == 3
    assert [row["subject"] for row in record["reviewed"]] == ["T1"]
    assert set(record["reviewed"][0]) == {"subject", "key", "before", "verdict", "readers"}
    assert record["slices_by_subject"] == {"T0": 2, "T1": 1}


def test_doubtful_test_subjects_are_measured_too():
    doubtful = crops(verdict=["accepted", "review"])
    arrays, record = study([crops()], [doubtful, crops(verdict=["failed", "failed"])])
    assert arrays["verdict"].tolist() == ["accepted", "review"]
    assert record["slices_by_verdict"] == {"accepted": 1, "review": 1}
    assert record["left_out_by_code"] == {"VERDICT": 2}
    assert "pack.test_verdicts allows accepted, review" in record["left_out"][0]["message"]
    _, record = study([crops()], [doubtful], role="validation")
    assert record["slices_by_verdict"] == {"accepted": 1}
    _, record = study([crops()], [doubtful], test_verdicts=["accepted"])
    assert record["slices"] == 1


def test_no_training_slice_names_task_fold_and_reasons():
    bad = crops(verdict=["failed", "review"])
    with pytest.raises(StudyError, match=r"task 't2', fold 0.*\(VERDICT 2: T0; GONE 1: T1\)"):
        study([bad, None])
    outside = crops()
    outside["valid"] = np.zeros_like(outside["valid"])
    with pytest.raises(StudyError, match="FIELD 2: T0"):
        study([outside], role="train")


def test_empty_role():
    arrays, record = study([crops()], [])
    assert len(arrays["key"]) == 0
    assert record["slices"] == record["subjects"] == 0
    arrays, record = study([crops()], [None])
    assert record["left_out"][0]["code"] == "GONE"


def test_letterbox_is_reported():
    _, record = study([crops(ventral=40, lateral=15)], [crops()])
    assert record["letterbox"] == pytest.approx(0.5)
    assert record["pixel_mm"] == pytest.approx(1)


def test_pack_settings():
    for wrong in ({"interpolation": "sinc"}, {"size": (0, 5)}, {"size": (5,)}):
        with pytest.raises(StudyError, match=next(iter(wrong))):
            pack([], Range(1, 1, 1), subjects=[], **wrong)


class Names(list):
    """As Snakemake's inputs: a list that knows some of its items by name."""

    def __init__(self, **names):
        super().__init__(v for n in names.values() for v in ([n] if isinstance(n, str) else n))
        self.__dict__.update(names)

    def items(self):
        return list(self.__dict__.items())

    def keys(self):
        return list(self.__dict__)

    def get(self, key, default=None):
        return self.__dict__.get(key, default)


def adapter(stage, inputs, outputs, cfg, **wildcards):
    """Run an adapter in this process; paths are relative to the working directory."""
    given = SimpleNamespace(
        input=Names(**inputs),
        output=Names(**outputs),
        params=SimpleNamespace(cfg=cfg),
        wildcards=Names(**wildcards),
        resources=Names(),
        log=[f"logs/{stage}.log"],
        threads=1,
        rule=stage,
    )
    runpy.run_path(str(WORKFLOW / f"scripts/{stage}.py"), init_globals={"snakemake": given})


def defaults(stage):
    schema = yaml.safe_load((WORKFLOW / f"schemas/{stage}.schema.yaml").read_text())
    return with_defaults({}, schema)


def subject_files(name, shift):
    """Warped stacks, landmarks and registration of a subject; the disc lies ``shift`` mm above the
    slices."""
    index = np.indices((3, 70, 60), dtype=np.float32)
    matrix = np.diag([2.0, 2.0, 4.0, 1.0])
    values = {"source": 10 * index[1] - 300, "target": index[2] * 2 + index[0] * 0.01}
    values |= {key: np.ones_like(index[0]) for key in ("valid", "body")}
    for key, array in values.items():
        write_stacks([from_array(array, matrix)], f"warp/{name}", key)
    disc = Disc(
        "L4-L5",
        np.array([60, 60, 4 + shift]),
        np.array([0, 0, 1]),
        sac_mm=np.array([60, 90, 4 + shift]),
        ventral_mm=np.array([60, 50, 4 + shift]),
        lateral_mm=np.array([[35, 60, 4 + shift], [85, 60, 4 + shift]]),
    )
    write_json({"status": "made"} | Landmarks([disc]).to_dict(), f"locate-{name}.json")
    write_json({"status": "made"}, f"warp-{name}.json")
    stacks = [{"stack": 1, "matrix": np.eye(4), "verdict": "accepted"}]
    record = {"status": "made", "verdict": "failed", "matrix": np.eye(4), "stacks": stacks}
    write_json(record, f"register-{name}.json")


def test_the_four_adapters_from_warped_stacks_to_a_pack(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    subjects = {"TTTTTTTT": 0.0, "UUUUUUUU": 16.0}
    for name, shift in subjects.items():
        subject_files(name, shift)
        names = {"task": "t2", "subject": name}
        window = defaults("window")
        window["source"]["kind"], window["target"]["kind"] = "ct", "mr"
        window["only"] = ""
        warped = {"stacks": f"warp/{name}", "record_in": f"warp-{name}.json"}
        made = {"stacks": f"window/{name}", "record": f"window-{name}.json"}
        adapter("window", warped, made, window, **names)
        registration = {"registration": f"register-{name}.json"}
        picks = {"table": f"pick-{name}.tsv", "record": f"pick-{name}.json"}
        inputs = warped | registration | {"landmarks": f"locate-{name}.json"}
        adapter("pick", inputs, picks, defaults("pick") | {"landmarks_frame": "moving"}, **names)
        inputs = {"stacks": made["stacks"], "record_in": made["record"]} | registration
        inputs |= {"picks": picks["table"], "picks_record": picks["record"]}
        cuts = {key: f"crop-{name}.{key}" for key in ("npz", "json", "png")}
        outputs = dict(zip(("crops", "record", "figure"), cuts.values(), strict=True))
        cfg = defaults("crop") | {"landmarks_frame": "moving"}
        adapter("crop", inputs, outputs, cfg, **names)
    assert read_json("pick-UUUUUUUU.json")["out"] == {"OFFSET": 1}
    assert read_json("pick-UUUUUUUU.json")["verdict"] == "accepted"
    assert read_json("crop-UUUUUUUU.json")["code"] == "NO_SLICES"

    cfg = defaults("pack") | {"size": [40, 25], "task": "t2", "fold": 0, "role": "train"}
    cfg |= {"subjects": list(subjects), "train_subjects": list(subjects)}
    files = {key: [f"crop-{name}.{key}" for name in subjects] for key in ("npz", "json")}
    inputs = {"crops": files["npz"], "records": files["json"]}
    inputs |= {"train_crops": files["npz"], "train_records": files["json"]}
    outputs = {"pack": "pack.npz", "record": "pack.json"}
    adapter("pack", inputs, outputs, cfg, task="t2", fold="0", role="train")
    record, arrays = read_json("pack.json"), read_npz("pack.npz")
    assert record["left_out_by_code"] == {"NO_SLICES": 1}
    assert record["range"] == {"ventral_mm": 40, "dorsal_mm": 40, "lateral_mm": 25, "anchor": "sac"}
    assert arrays["subject"].tolist() == ["TTTTTTTT"]
    assert arrays["key"].tolist() == ["stack-1_slice-01"]
    # 2 mm pixels around the sac at row 45: HU −160 to 240 is grey 0 to 255, 10 HU a row.
    hu = 10 * (np.arange(40) - 19.5 + 45) - 300
    expected = np.clip((hu + 160) / 400, 0, 1) * 255
    np.testing.assert_allclose(arrays["source"][0][:, 12], expected, atol=4)
    assert (np.diff(arrays["target"][0], axis=1) > 0).all()


@pytest.mark.parametrize("stage", ["window", "pick", "crop", "pack"])
def test_schema_and_functions_have_the_same_defaults(stage):
    injected = {
        "pick": {"landmarks_frame", "verdict"},
        "crop": {"verdicts", "posed"},
        "window": {"kind"},
    }
    injected["pack"] = {"subjects", "train_subjects", "task", "fold", "role", "review"}
    functions = {"window": to_grey_levels, "pick": pick, "crop": crop, "pack": assemble}
    parameters = inspect.signature(functions[stage]).parameters
    expected = {
        name: list(p.default) if isinstance(p.default, tuple) else p.default
        for name, p in parameters.items()
        if p.kind is p.KEYWORD_ONLY and name not in injected[stage] | {"body", "valid"}
    }
    found = defaults(stage)
    for block in found.values() if stage == "window" else [found]:
        assert block == expected
