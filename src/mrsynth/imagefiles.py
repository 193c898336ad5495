"""Volume files of public data sets: NIfTI, MetaImage and NRRD, checked before they are read.

The header is parsed here, within a limit, and must promise one three-dimensional volume of plain
numbers in millimetres with one place in space; only then ITK reads the pixels. Texts of the header
(descrip, aux_file, intent, extensions, comments) are never looked at and never copied.
"""

import gzip
import io
import math
import re
import struct
import tempfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from mrsynth import archives, digests, volume
from mrsynth.errors import Refusal

SUFFIXES = (".nii", ".nii.gz", ".mha", ".nrrd")
"""Self-contained kinds. Detached ones (.hdr, .mhd, .nhdr) name another file, which may be any."""

DETACHED = (".hdr", ".mhd", ".nhdr")

NIFTI_BYTES = 348
TRAILER_BYTES = 2**20
"""What may follow the voxels."""

HEADER_BYTES = 2**16
"""Longest text header: real ones have some hundred bytes."""

MOST_VOXELS = 2**31
"""Voxels of one volume, as for DICOM."""

PLAIN_BYTES = 2**28
LARGEST_RATIO = 200
"""A compressed file may promise this many times its size, and any file the first many bytes."""

NIFTI_TYPES = {
    2: "u1",
    4: "i2",
    8: "i4",
    16: "f4",
    64: "f8",
    256: "i1",
    512: "u2",
    768: "u4",
    1024: "i8",
    1280: "u8",
}
"""NIfTI datatype → numpy's; complex (32, 1792), RGB (128, 2304), bits (1) and longer floats are not
read (nifti1.h)."""

META_TYPES = {
    f"MET_{sign}{name}": size
    for name, size in (("CHAR", 1), ("SHORT", 2), ("INT", 4), ("LONG_LONG", 8))
    for sign in ("", "U")
} | {"MET_FLOAT": 4, "MET_DOUBLE": 8}

META_SYNONYMS = {
    "position": "offset",
    "origin": "offset",
    "orientation": "transformmatrix",
    "rotation": "transformmatrix",
}

NRRD_TYPES = {
    re.compile(r"(u?int8(_t)?|(un)?signed char|uchar)"): 1,
    re.compile(r"(u?int16(_t)?|((un)?signed )?short( int)?|ushort)"): 2,
    re.compile(r"(u?int32(_t)?|((un)?signed )?int|uint|float)"): 4,
    re.compile(r"(u?int64(_t)?|((un)?signed )?long ?long( int)?|u?longlong|double)"): 8,
}
NRRD_SPACES = {
    "left-posterior-superior": (1, 1, 1),
    "lps": (1, 1, 1),
    "right-anterior-superior": (-1, -1, 1),
    "ras": (-1, -1, 1),
    "left-anterior-superior": (1, -1, 1),
    "las": (1, -1, 1),
}

AFFINE_TOLERANCE = 1e-3
"""Largest scalar product of two axes: single precision and three decimals stay below it."""

PLACE_TOLERANCE_MM = 0.1
"""How far NIfTI's two affines may put a corner apart; both are in single precision."""

SLICE_RATIO = 1.1
"""A spacing this much above the others is the slices'."""

ORIENTATIONS = {"axial": "LPS", "sagittal": "PIR", "coronal": "LIP"}
"""Plane → where columns, rows and slices run to: as a scanner's DICOM, and right-handed."""

NORMALS = ("sagittal", "coronal", "axial")
"""Plane whose normal is nearest to the x, y, z axis."""


@dataclass(frozen=True)
class FileHeader:
    """What a volume file promises.

    Attributes:
        size: Voxels along x, y, z of the file.
        matrix: 4×4 from the file's indices to LPS mm, its columns orthogonal.
        bytes: Per voxel.
        warnings: Codes: ``NO_ORIGIN``, ``NO_UNITS``.
        stored: NIfTI's voxels: numpy's name of their type, where they start, slope and intercept.
    """

    size: tuple[int, int, int]
    matrix: np.ndarray
    bytes: int
    warnings: tuple[str, ...]
    stored: tuple[str, int, float, float] | None = None

    @property
    def spacing(self) -> np.ndarray:
        """Of x, y, z in mm."""
        return np.linalg.norm(self.matrix[:3, :3], axis=0)

    @property
    def plane(self) -> str:
        """Plane of the slices: across the axis of the largest spacing, else the file's third."""
        spacing = self.spacing
        axis = int(np.argmax(spacing))
        if spacing[axis] < SLICE_RATIO * np.median(spacing):
            axis = 2
        return NORMALS[int(np.argmax(np.abs(self.matrix[:3, axis])))]


def is_volume(path: str) -> bool:
    """Whether a file's name is that of a volume file that can be read."""
    return str(path).lower().endswith(SUFFIXES)


def read_header(path: str) -> FileHeader:
    """Parse and check a volume file's header.

    Raises:
        Refusal: ``CORRUPT``, ``UNSUPPORTED_TYPE``, ``NOT_3D``, ``IMPOSSIBLE_SIZE``, ``BAD_UNITS``,
            ``NO_AFFINE``, ``BAD_AFFINE``, ``AFFINE_CONFLICT`` or ``BAD_RESCALE``.
    """
    name = str(path).lower()
    parse = (
        _nifti if name.endswith((".nii", ".nii.gz")) else _meta if name.endswith(".mha") else _nrrd
    )
    start = archives.read(path, HEADER_BYTES)
    try:
        if name.endswith(".gz"):
            start = _inflated(start, NIFTI_BYTES)
        header, offset = parse(start)
    except Refusal:
        raise
    except Exception:
        # The error's own text may quote the header.
        raise Refusal("CORRUPT", "the header of a volume file can't be parsed") from None
    voxels = math.prod(header.size)
    if min(header.size) < 1 or voxels > MOST_VOXELS:
        raise Refusal("IMPOSSIBLE_SIZE", f"a volume of {voxels} voxels", "leave it out")
    promised, length = voxels * header.bytes, archives.size(path)
    compressed = name.endswith(".gz") or offset is None
    if compressed and promised > max(PLAIN_BYTES, LARGEST_RATIO * length):
        raise Refusal(
            "IMPOSSIBLE_SIZE", f"{length} bytes promise {promised >> 20} MiB", "send it again"
        )
    if not compressed and length < offset + promised:
        raise Refusal("CORRUPT", "the volume file ends before its voxels do", "send it again")
    _check_affine(header.matrix)
    return header


def read(path: str, plane: str = "", digest: str = "") -> tuple[sitk.Image, list[str]]:
    """Read a volume, its axes put into the order in which a scanner would have sent it.

    Args:
        path: A volume file, or one in an archive.
        plane: The slices' plane; empty takes the header's.
        digest: Of the file's content (:mod:`mrsynth.digests`); empty asks nothing.

    Returns:
        int16 or float32 volume in LPS mm whose third axis is the slices', without any text; and
        the warnings of its header.

    Raises:
        Refusal: See :func:`read_header`.
    """
    header = read_header(path)
    content = archives.read(path)
    digests.check(content, digest)
    values = _nifti_values(path, content, header) if header.stored else _other_values(path, content)
    if values.shape != header.size[::-1]:
        raise Refusal("CORRUPT", "a volume file's voxels are not what its header promises")
    # The header's own matrix: ITK rounds some directions and takes others as it likes.
    image = volume.from_array(_compact(values), _orthogonal(header.matrix))
    return sitk.DICOMOrient(image, ORIENTATIONS[plane or header.plane]), list(header.warnings)


def _nifti_values(path: str, content: bytes, header: FileHeader) -> np.ndarray:
    """Voxels of NIfTI: ITK reads a cut .nii.gz without a word, and makes zeros of NaN."""
    kind, offset, slope, intercept = header.stored
    count = math.prod(header.size)
    if path.lower().endswith(".gz"):
        content = _inflated(content, offset + count * header.bytes)
    values = np.frombuffer(content, kind, count, offset).reshape(header.size[::-1])
    if slope == 0 or (slope, intercept) == (1, 0):
        return values
    return values * float(slope) + float(intercept)


def _other_values(path: str, content: bytes) -> np.ndarray:
    """Voxels by ITK, from a private copy where the file lies in an archive."""
    try:
        if archives.split(path) is None:
            return volume.to_array(sitk.ReadImage(str(path)))
        suffix = Path(path).suffix.lower()
        with tempfile.TemporaryDirectory(prefix="mrsynth-") as folder:
            copy = Path(folder) / f"volume{suffix}"
            copy.write_bytes(content)
            return volume.to_array(sitk.ReadImage(str(copy)))
    except RuntimeError:
        raise Refusal("CORRUPT", "the voxels of a volume file can't be read") from None


def _compact(values: np.ndarray) -> np.ndarray:
    """Values as int16 where that is exact, else float32; finite."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise Refusal("CORRUPT", "a volume file holds values that are no numbers")
    limits = np.iinfo(np.int16)
    whole = values.dtype.kind in "iu" or bool((values == np.rint(values)).all())
    if whole and values.min() >= limits.min and values.max() <= limits.max:
        return values.astype(np.int16)
    return values.astype(np.float32)


def _inflated(content: bytes, count: int) -> bytes:
    """The first bytes of a gzip file, with the file's check sum if it ends soon after them."""
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            found = file.read(count)
            if count > NIFTI_BYTES:
                file.read(TRAILER_BYTES)
        if len(found) < count:
            raise EOFError
        return found
    except (EOFError, zlib.error, gzip.BadGzipFile):
        raise Refusal("CORRUPT", "a compressed volume file is cut or damaged") from None


def _nifti(start: bytes) -> tuple[FileHeader, int]:
    """Header of NIfTI-1 (nifti1.h)."""
    if len(start) < NIFTI_BYTES:
        raise Refusal("CORRUPT", "a volume file is shorter than its header")
    end = "<" if struct.unpack_from("<i", start)[0] == 348 else ">"
    if struct.unpack_from(f"{end}i", start)[0] != 348 or start[344:348] != b"n+1\0":
        raise Refusal(
            "UNSUPPORTED_TYPE", "not a single-file NIfTI-1 volume", "write it as .nii.gz (NIfTI-1)"
        )
    dim = struct.unpack_from(f"{end}8h", start, 40)
    datatype = struct.unpack_from(f"{end}h", start, 70)[0]
    pixdim = struct.unpack_from(f"{end}8f", start, 76)
    offset, slope, intercept = struct.unpack_from(f"{end}3f", start, 108)
    q_code, s_code = struct.unpack_from(f"{end}2h", start, 252)
    quaternion = struct.unpack_from(f"{end}6f", start, 256)
    rows = np.array(struct.unpack_from(f"{end}12f", start, 280)).reshape(3, 4)
    _check_dimensions(dim[0], list(dim[1 : dim[0] + 1]))
    if datatype not in NIFTI_TYPES:
        raise Refusal("UNSUPPORTED_TYPE", f"NIfTI datatype {datatype}: no plain numbers")
    if not offset >= NIFTI_BYTES:
        raise Refusal("CORRUPT", "the voxels of a volume file start within its header")
    if not (math.isfinite(slope) and math.isfinite(intercept)):
        raise Refusal("BAD_RESCALE", "scl_slope or scl_inter is no number")
    units = start[123] & 7
    if units not in (0, 2):
        raise Refusal("BAD_UNITS", "the spatial unit is not the millimetre", "write it in mm")
    found = []
    if s_code > 0:
        found.append(np.vstack([rows, (0, 0, 0, 1)]))
    if q_code > 0:
        found.append(_quaternion(quaternion, pixdim))
    if not found:
        raise Refusal(
            "NO_AFFINE", "neither sform nor qform says where the volume lies", "set one of them"
        )
    size = tuple(int(n) for n in dim[1:4])
    _check_agreement(found, size)
    # NIfTI's world is RAS (nifti1.h).
    matrix = np.diag((-1.0, -1.0, 1.0, 1.0)) @ found[0]
    warnings = _origin_warning(matrix)
    if not units:
        warnings.append("NO_UNITS")
    kind = np.dtype(end + NIFTI_TYPES[datatype])
    stored = (kind.str, int(offset), slope, intercept)
    return FileHeader(size, matrix, kind.itemsize, tuple(warnings), stored), int(offset)


def _quaternion(values: tuple, pixdim: tuple) -> np.ndarray:
    """The affine of a qform, RAS (nifti1.h, method 2)."""
    b, c, d, *shift = values
    a = math.sqrt(max(0.0, 1.0 - (b * b + c * c + d * d)))
    rotation = np.array(
        [
            [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
            [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
            [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ]
    )
    matrix = np.eye(4)
    matrix[:3, :3] = rotation * np.array(pixdim[1:4])
    matrix[:3, 2] *= -1 if pixdim[0] < 0 else 1
    matrix[:3, 3] = shift
    return matrix


def _check_agreement(found: list[np.ndarray], size: tuple[int, ...]) -> None:
    """Refuse a volume of which the two affines put its corners into different places."""
    if len(found) < 2 or not np.isfinite(found).all():
        return
    corners = np.array([(x, y, z, 1) for x in (0, 1) for y in (0, 1) for z in (0, 1)], float)
    corners[:, :3] *= np.array(size) - 1
    apart = np.linalg.norm((corners @ (found[0] - found[1]).T)[:, :3], axis=1).max()
    if apart > PLACE_TOLERANCE_MM:
        raise Refusal(
            "AFFINE_CONFLICT",
            f"sform and qform put the volume's corners {apart:.3g} mm apart",
            "find out which is right, and write both alike",
        )


def _check_dimensions(count: int, sizes: list[int]) -> None:
    if count < 3 or any(size != 1 for size in sizes[3:]):
        raise Refusal("NOT_3D", f"{count} dimensions instead of three", "write one volume per file")


def _origin_warning(matrix: np.ndarray) -> list[str]:
    """Exactly zero is no scanner's position: some tool has lost it."""
    return [] if matrix[:3, 3].any() else ["NO_ORIGIN"]


def _check_affine(matrix: np.ndarray) -> None:
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    if not np.isfinite(matrix).all() or not (spacing > 0).all():
        raise Refusal("BAD_AFFINE", "the affine holds no numbers or a spacing of zero")
    axes = matrix[:3, :3] / spacing
    off = np.abs(axes.T @ axes - np.eye(3)).max()
    if off > AFFINE_TOLERANCE:
        raise Refusal(
            "BAD_AFFINE",
            f"the volume's axes are not perpendicular (scalar product {off:.3g})",
            "resample it onto an orthogonal grid",
        )


def _orthogonal(matrix: np.ndarray) -> np.ndarray:
    """The matrix with the nearest perpendicular axes (polar decomposition)."""
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    left, _, right = np.linalg.svd(matrix[:3, :3] / spacing)
    result = matrix.copy()
    result[:3, :3] = left @ right * spacing
    return result


def _meta(start: bytes) -> tuple[FileHeader, int | None]:
    """Header of MetaImage with its pixels in the same file."""
    fields, place = {}, 0
    while "elementdatafile" not in fields:
        line, place = _line(start, place)
        name, _, value = line.partition("=")
        fields[name.strip().lower()] = value.strip()
    if (
        fields["elementdatafile"].upper() != "LOCAL"
        or fields.get("binarydata", "true").lower() != "true"
    ):
        raise Refusal("UNSUPPORTED_TYPE", "the pixels are not in the file itself as binary numbers")
    sizes = [int(size) for size in fields["dimsize"].split()]
    _check_dimensions(int(fields["ndims"]), sizes)
    kind = fields["elementtype"].upper()
    if kind not in META_TYPES or int(fields.get("elementnumberofchannels", "1")) != 1:
        raise Refusal("UNSUPPORTED_TYPE", "several numbers per voxel, or an unknown type")
    for other, name in META_SYNONYMS.items():
        if other in fields:
            fields[name] = fields[other]
    if "offset" not in fields or "transformmatrix" not in fields or "elementspacing" not in fields:
        raise Refusal("NO_AFFINE", "Offset, TransformMatrix or ElementSpacing is missing")
    matrix = np.eye(4)
    spacing = [float(part) for part in fields["elementspacing"].split()]
    axes = [float(part) for part in fields["transformmatrix"].split()]
    matrix[:3, :3] = np.array(axes).reshape(3, 3).T * spacing
    matrix[:3, 3] = [float(part) for part in fields["offset"].split()]
    compressed = fields.get("compresseddata", "false").lower() == "true"
    header = FileHeader(tuple(sizes), matrix, META_TYPES[kind], tuple(_origin_warning(matrix)))
    return header, None if compressed else place


def _nrrd(start: bytes) -> tuple[FileHeader, int | None]:
    """Header of NRRD with its pixels in the same file."""
    line, place = _line(start, 0)
    if not line.startswith("NRRD000"):
        raise Refusal("CORRUPT", "not an NRRD file under such a name")
    fields: dict[str, str] = {}
    while True:
        line, place = _line(start, place)
        if not line:
            break
        name, colon, value = line.partition(":")
        if colon and not line.startswith("#") and not value.startswith("="):
            fields[name.strip().lower()] = value.strip()
    if {"data file", "datafile"} & fields.keys():
        raise Refusal("UNSUPPORTED_TYPE", "the pixels are not in the file itself")
    sizes = [int(size) for size in fields["sizes"].split()]
    if int(fields["dimension"]) != 3 or len(sizes) != 3:
        raise Refusal("NOT_3D", f"{len(sizes)} dimensions instead of three")
    kind = fields["type"].lower()
    width = next((size for name, size in NRRD_TYPES.items() if name.fullmatch(kind)), None)
    encoding = fields.get("encoding", "raw").lower()
    if width is None or encoding not in ("raw", "gzip", "gz"):
        raise Refusal("UNSUPPORTED_TYPE", "an unknown type or encoding of the voxels")
    space = NRRD_SPACES.get(fields.get("space", "").lower())
    if space is None or not {"space directions", "space origin"} <= fields.keys():
        raise Refusal("NO_AFFINE", "space, space directions or space origin is missing or unknown")
    if set(re.findall(r'"(.*?)"', fields.get("space units", ""))) - {"mm", ""}:
        raise Refusal("BAD_UNITS", "the spatial unit is not the millimetre", "write it in mm")
    matrix = np.eye(4)
    matrix[:3, :3] = np.array(_vectors(fields["space directions"])).T
    matrix[:3, 3] = _vectors(fields["space origin"])[0]
    matrix[:3] = np.diag(space) @ matrix[:3]
    header = FileHeader(tuple(sizes), matrix, width, tuple(_origin_warning(matrix)))
    return header, place if encoding == "raw" else None


def _vectors(text: str) -> list[list[float]]:
    return [[float(part) for part in item.split(",")] for item in re.findall(r"\((.*?)\)", text)]


def _line(content: bytes, place: int) -> tuple[str, int]:
    """The line that starts at a place, and where the next one does."""
    end = content.index(b"\n", place)
    return content[place:end].decode("latin-1").strip("\r"), end + 1
