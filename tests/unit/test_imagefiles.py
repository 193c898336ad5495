"""Volume files: what their headers must promise, and that each kind gives the same volume."""

import gzip
import struct

import numpy as np
import pytest
import SimpleITK as sitk

from mrsynth import imagefiles, volume
from mrsynth.convert import convert_stack
from mrsynth.errors import Refusal

SHAPE = (6, 8, 10)
CANARY = b"Canary^Jane"


def scan(matrix=None, dtype=np.int16) -> sitk.Image:
    """A volume of distinct values, as a tool would hold it."""
    values = np.arange(np.prod(SHAPE)).reshape(SHAPE).astype(dtype)
    matrix = np.diag([1.5, 2.0, 4.0, 1.0]) if matrix is None else matrix
    matrix = matrix.copy()
    matrix[:3, 3] = (-20, 30, 5) if not matrix[:3, 3].any() else matrix[:3, 3]
    return volume.from_array(values, matrix)


def write(image: sitk.Image, path):
    sitk.WriteImage(image, str(path))
    return str(path)


def patched(path, *changes) -> str:
    """A .nii file with other bytes at some offsets: (offset, format, values…)."""
    content = bytearray(path.read_bytes())
    for offset, form, *values in changes:
        struct.pack_into(form, content, offset, *values)
    path.write_bytes(content)
    return str(path)


def code_of(path: str) -> str:
    with pytest.raises(Refusal) as error:
        imagefiles.read(path)
    assert "Canary" not in str(error.value)
    return error.value.code


def row(path, modality="MR", plane="", **cells) -> dict:
    return {
        "path": str(path),
        "frame": "",
        "modality": modality,
        "weighting": "T1",
        "plane": plane or imagefiles.read_header(str(path)).plane,
        "thickness_mm": "",
    } | cells


def same_world(image: sitk.Image, other: sitk.Image) -> bool:
    """Whether each voxel of one lies where the other holds the same value."""
    for index in np.ndindex(*image.GetSize()):
        point = image.TransformIndexToPhysicalPoint([int(n) for n in index])
        place = other.TransformPhysicalPointToContinuousIndex(point)
        if np.abs(np.array(place) - np.round(place)).max() > 1e-3:
            return False
        if other[[round(n) for n in place]] != image[[int(n) for n in index]]:
            return False
    return True


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd"])
@pytest.mark.parametrize("compressed", [False, True])
def test_every_kind_gives_the_same_volume(tmp_path, suffix, compressed):
    image = scan()
    path = tmp_path / f"a{suffix}"
    sitk.WriteImage(image, str(path), useCompression=compressed)
    read, warnings = imagefiles.read(str(path))
    assert warnings == []
    assert read.GetPixelID() == sitk.sitkInt16
    assert same_world(read, image)
    assert np.allclose(read.GetDirection(), np.eye(3).ravel())


@pytest.mark.parametrize("suffix", [".nii.gz", ".mha", ".nrrd"])
@pytest.mark.parametrize("order", ["LPS", "RAS", "PIR", "ASR", "LIP", "RSA", "ILP"])
def test_any_order_of_axes_keeps_the_world_and_ends_as_a_scanners(tmp_path, suffix, order):
    image = sitk.DICOMOrient(scan(), order)
    path = write(image, tmp_path / f"a{suffix}")
    read, _ = imagefiles.read(path)
    assert same_world(read, image)
    # The largest spacing is along the body: the slices are axial whatever the file's order.
    assert read.GetSpacing()[2] == 4.0
    axes = np.array(read.GetDirection()).reshape(3, 3)
    assert np.allclose(axes, np.eye(3))
    assert np.linalg.det(axes) > 0


@pytest.mark.parametrize("plane", ["axial", "sagittal", "coronal"])
def test_the_users_plane_decides(tmp_path, plane):
    image = scan(np.diag([1.0, 1.0, 1.0, 1.0]))
    path = write(image, tmp_path / "a.nii")
    made = convert_stack([row(path, plane=plane)])
    assert made.record["plane"] == plane
    assert same_world(made.image, image)
    axes = np.array(made.image.GetDirection()).reshape(3, 3)
    assert imagefiles.NORMALS[int(np.argmax(np.abs(axes[:, 2])))] == plane
    assert np.linalg.det(axes) > 0


def test_an_oblique_volume_keeps_its_place(tmp_path):
    angle = np.radians(20)
    turn = np.array(
        [[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]]
    )
    matrix = np.eye(4)
    matrix[:3, :3] = turn * (1.5, 2.0, 4.0)
    image = scan(matrix)
    for suffix in (".nii.gz", ".mha", ".nrrd"):
        read, _ = imagefiles.read(write(image, tmp_path / f"a{suffix}"))
        assert same_world(read, image)


@pytest.mark.parametrize(
    ("dtype", "expected"),
    [
        (np.uint8, sitk.sitkInt16),
        (np.int16, sitk.sitkInt16),
        (np.uint16, sitk.sitkInt16),
        (np.int32, sitk.sitkInt16),
        (np.float32, sitk.sitkInt16),
        (np.float64, sitk.sitkInt16),
    ],
)
def test_whole_numbers_are_kept_whole(tmp_path, dtype, expected):
    image = scan(dtype=dtype)
    read, _ = imagefiles.read(write(image, tmp_path / "a.nii.gz"))
    assert read.GetPixelID() == expected
    assert same_world(read, image)


def test_fractions_and_large_numbers_are_floats(tmp_path):
    image = sitk.Cast(scan(), sitk.sitkFloat32) * 0.5
    read, _ = imagefiles.read(write(image, tmp_path / "a.nii.gz"))
    assert read.GetPixelID() == sitk.sitkFloat32
    assert same_world(read, image)
    image = sitk.Cast(scan(), sitk.sitkInt32) * 1000
    assert imagefiles.read(write(image, tmp_path / "b.nii"))[0].GetPixelID() == sitk.sitkFloat32


def test_the_header_rescales(tmp_path):
    write(scan(), tmp_path / "a.nii")
    path = patched(tmp_path / "a.nii", (112, "<2f", 0.5, -3.25))
    read, _ = imagefiles.read(path)
    assert volume.to_array(read)[0, 0, :3].tolist() == [-3.25, -2.75, -2.25]


BAD = {
    "four dimensions": ("NOT_3D", (40, "<5h", 4, 10, 8, 6, 2)),
    "two dimensions": ("NOT_3D", (40, "<h", 2)),
    "complex": ("UNSUPPORTED_TYPE", (70, "<h", 32)),
    "rgb": ("UNSUPPORTED_TYPE", (70, "<h", 128)),
    "bits": ("UNSUPPORTED_TYPE", (70, "<h", 1)),
    "detached": ("UNSUPPORTED_TYPE", (344, "4s", b"ni1\0")),
    "NIfTI-2": ("UNSUPPORTED_TYPE", (0, "<i", 540)),
    "metres": ("BAD_UNITS", (123, "<B", 1)),
    "micrometres": ("BAD_UNITS", (123, "<B", 3)),
    "no affine": ("NO_AFFINE", (252, "<2h", 0, 0)),
    "affines apart": ("AFFINE_CONFLICT", (292, "<f", 9.0)),
    "sheared": ("BAD_AFFINE", (252, "<h", 0), (284, "<f", 0.4)),
    "no numbers": ("BAD_AFFINE", (252, "<h", 0), (280, "<f", float("nan"))),
    "no spacing": ("BAD_AFFINE", (252, "<h", 0), (280, "<3f", 0, 0, 0), (296, "<f", 0.0)),
    "slope": ("BAD_RESCALE", (112, "<f", float("nan"))),
    "too large": ("IMPOSSIBLE_SIZE", (40, "<4h", 3, 32767, 32767, 32767)),
    "larger than the file": ("CORRUPT", (40, "<4h", 3, 100, 100, 100)),
    "negative": ("IMPOSSIBLE_SIZE", (40, "<4h", 3, -10, 8, 6)),
    "garbage": ("UNSUPPORTED_TYPE", (0, "<i", 77)),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_headers_are_refused_by_name(tmp_path, name):
    code, *changes = BAD[name]
    write(scan(), tmp_path / "a.nii")
    assert code_of(patched(tmp_path / "a.nii", *changes)) == code


def test_a_compressed_promise_is_checked_before_memory_is_taken(tmp_path, monkeypatch):
    write(scan(), tmp_path / "a.nii")
    patched(tmp_path / "a.nii", (40, "<4h", 3, 1200, 1200, 1200))
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress((tmp_path / "a.nii").read_bytes()))
    monkeypatch.setattr(imagefiles.sitk, "ReadImage", None)
    assert code_of(str(path)) == "IMPOSSIBLE_SIZE"


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.6, 0.97])
def test_cut_files_are_refused(tmp_path, suffix, share):
    path = tmp_path / f"a{suffix}"
    image = sitk.Image(40, 40, 20, sitk.sitkInt16)
    image = image + sitk.GetImageFromArray(
        np.random.default_rng(0).integers(-500, 500, (20, 40, 40)).astype(np.int16)
    )
    image.SetOrigin((1, 2, 3))
    sitk.WriteImage(image, str(path), useCompression=True)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    assert code_of(str(path)) in ("CORRUPT", "UNSUPPORTED_TYPE")


def test_flipped_bytes_never_crash_and_never_hang(tmp_path):
    for suffix in (".nii.gz", ".mha", ".nrrd"):
        path = tmp_path / f"a{suffix}"
        write(scan(), path)
        content = path.read_bytes()
        rng = np.random.default_rng(0)
        for _ in range(40):
            changed = bytearray(content)
            changed[rng.integers(len(changed))] ^= int(rng.integers(1, 256))
            path.write_bytes(changed)
            try:
                image, _ = imagefiles.read(str(path))
            except Refusal:
                continue
            assert image.GetNumberOfPixels() == scan().GetNumberOfPixels()


@pytest.mark.parametrize(
    ("line", "other", "code"),
    [
        ("ElementDataFile = LOCAL", "ElementDataFile = /etc/passwd", "UNSUPPORTED_TYPE"),
        ("ElementDataFile = LOCAL", "ElementDataFile = LIST", "UNSUPPORTED_TYPE"),
        ("NDims = 3", "NDims = 4", "CORRUPT"),
        ("DimSize = 10 8 6", "DimSize = 10 8 6 2", "NOT_3D"),
        ("ElementType = MET_SHORT", "ElementType = MET_SHORT_ARRAY", "UNSUPPORTED_TYPE"),
        ("BinaryData = True", "BinaryData = False", "UNSUPPORTED_TYPE"),
        ("Offset = ", "Elsewhere = ", "NO_AFFINE"),
        ("DimSize = 10 8 6", "DimSize = 10 8 x", "CORRUPT"),
        ("DimSize = 10 8 6", "DimSize = 99999 99999 99999", "IMPOSSIBLE_SIZE"),
    ],
)
def test_metaimage_headers_are_checked(tmp_path, line, other, code):
    path = tmp_path / "a.mha"
    sitk.WriteImage(scan(), str(path), useCompression=False)
    content = path.read_bytes()
    assert line.encode() in content
    path.write_bytes(content.replace(line.encode(), other.encode(), 1))
    found = code_of(str(path))
    assert found == code or (code == "CORRUPT" and found == "NOT_3D")


def test_metaimage_has_several_words_for_the_same(tmp_path):
    path = tmp_path / "a.mha"
    sitk.WriteImage(scan(), str(path), useCompression=False)
    content = path.read_bytes().replace(b"\nOffset =", b"\nOrigin =")
    path.write_bytes(content.replace(b"\nTransformMatrix =", b"\nRotation ="))
    assert same_world(imagefiles.read(str(path))[0], scan())


@pytest.mark.parametrize(
    ("line", "other", "code"),
    [
        ("dimension: 3", "dimension: 4", "NOT_3D"),
        ("sizes: 10 8 6", "sizes: 10 8 6 2", "NOT_3D"),
        ("type: short", "type: block", "UNSUPPORTED_TYPE"),
        ("encoding: raw", "encoding: hex", "UNSUPPORTED_TYPE"),
        ("encoding: raw", "data file: /etc/passwd\nencoding: raw", "UNSUPPORTED_TYPE"),
        ("space: left-posterior-superior", "space: scanner-xyz", "NO_AFFINE"),
        ("space origin", "space orig", "NO_AFFINE"),
        ("encoding: raw", 'encoding: raw\nspace units: "m" "m" "m"', "BAD_UNITS"),
    ],
)
def test_nrrd_headers_are_checked(tmp_path, line, other, code):
    path = tmp_path / "a.nrrd"
    sitk.WriteImage(scan(), str(path), useCompression=False)
    content = path.read_bytes()
    assert line.encode() in content
    path.write_bytes(content.replace(line.encode(), other.encode(), 1))
    assert code_of(str(path)) == code


def test_values_that_are_no_numbers_are_refused(tmp_path):
    image = sitk.Cast(scan(), sitk.sitkFloat32)
    image[3, 3, 3] = float("nan")
    assert code_of(write(image, tmp_path / "a.nii.gz")) == "CORRUPT"


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".mha", ".nrrd"])
def test_no_text_of_a_file_reaches_the_volume(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    image = scan()
    image.SetMetaData("Comment", CANARY.decode())
    sitk.WriteImage(image, str(path), useCompression=False)
    if suffix.startswith(".nii"):
        plain = path.read_bytes() if suffix == ".nii" else gzip.decompress(path.read_bytes())
        content = bytearray(plain[:352])
        for offset, size in ((4, 10), (14, 18), (148, 80), (228, 24), (328, 16)):
            content[offset : offset + size] = CANARY[:size].ljust(size, b"\0")
        extension = CANARY.ljust(24, b"\0")
        content[348:352] = b"\1\0\0\0"
        content += struct.pack("<2i", 32, 6) + extension
        struct.pack_into("<f", content, 108, 352 + 32)
        content += plain[352:]
        path.write_bytes(content if suffix == ".nii" else gzip.compress(content))
        raw = content
    else:
        raw = path.read_bytes()
    assert CANARY in raw, "nothing was planted"
    made = convert_stack([row(path)])
    assert same_world(made.image, image)
    for name in ("out.nii.gz", "out.mha"):
        out = tmp_path / name
        volume.write_volume(made.image, out)
        written = out.read_bytes()
        written = gzip.decompress(written) if name.endswith(".gz") else written
        assert CANARY[:6] not in written
    assert "Canary" not in str(made.record)
    header = gzip.decompress((tmp_path / "out.nii.gz").read_bytes())[:352]
    texts = header[4:32] + header[148:252] + header[328:344] + header[348:352]
    assert not any(texts), "a text field of the NIfTI header is not empty"


def test_places_outside_a_round_field_are_no_data(tmp_path):
    values = np.full((4, 20, 20), -1000, np.int16)
    values[:, 5:15, 5:15] = 300
    y, x = np.mgrid[:20, :20]
    outside = (y - 9.5) ** 2 + (x - 9.5) ** 2 > 100
    values[:, outside] = -2000
    image = volume.from_array(values, np.diag([1.0, 1.0, 3.0, 1.0]))
    made = convert_stack([row(write(image, tmp_path / "a.nii.gz"), "CT")])
    assert volume.to_array(made.image).min() == -1024
    assert made.record["minimum"] == -1000
    assert made.record["padding_voxels"] == 4 * outside.sum()
    assert np.array_equal(volume.to_array(made.field)[0] == 0, outside)
    assert "HU_RANGE" not in made.record["warnings"]


@pytest.mark.parametrize("values", [(0, 255), (24, 3000)])
def test_ct_that_is_8_bit_or_counts_from_zero_is_told(tmp_path, values):
    image = scan() * 0 + values[0]
    image[5, 5, 3] = values[1]
    made = convert_stack([row(write(image, tmp_path / "a.nii.gz"), "CT")])
    assert "HU_RANGE" in made.record["warnings"]


def test_a_zero_origin_is_told(tmp_path):
    image = scan()
    image.SetOrigin((0, 0, 0))
    made = convert_stack([row(write(image, tmp_path / "a.nii.gz"))])
    assert made.record["warnings"] == ["NO_ORIGIN"]
