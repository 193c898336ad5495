"""The search for marks: it must find one in every hiding place, and nothing in clean files."""

import base64
import gzip
import io
import zipfile
import zlib

import numpy as np
import pydicom
import pytest
from matplotlib.figure import Figure

from canary import BIRTH, FIRST_DAY, TIME, UID_ROOT, WORD, Marker, Search, additional

MARK = f"before {WORD} after".encode()


def png(**texts) -> bytes:
    stream = io.BytesIO()
    figure = Figure(figsize=(1, 1))
    figure.savefig(stream, format="png", metadata=texts)
    return stream.getvalue()


def compressed_png() -> bytes:
    data = b"Comment\0\0" + zlib.compress(MARK)
    chunk = len(data).to_bytes(4, "big") + b"zTXt" + data + zlib.crc32(b"zTXt" + data).to_bytes(4)
    content = png()
    return content[:33] + chunk + content[33:]


def npz() -> bytes:
    stream = io.BytesIO()
    np.savez_compressed(stream, name=np.array([MARK.decode()]))
    return stream.getvalue()


def member() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr(f"{WORD}.txt", "")
    return stream.getvalue()


HIDING = {
    "plain": MARK,
    "lower case": MARK.lower(),
    "utf-16": MARK.decode().encode("utf-16"),
    "gzip": gzip.compress(MARK),
    "two gzip members": gzip.compress(b"x") + gzip.compress(MARK),
    "zlib": zlib.compress(MARK),
    "zip": npz(),
    "name in a zip": member(),
    "png text": png(Comment=MARK.decode()),
    "compressed png text": compressed_png(),
    "base64": b'{"x": "' + base64.b64encode(MARK) + b'"}',
    "base64 after letters": b"abcde" + base64.b64encode(MARK),
    "url-safe base64": base64.urlsafe_b64encode(b"\xff\xfe\xfd" + MARK),
    "gzip in base64 in html": b"<img src=data:;base64," + base64.b64encode(gzip.compress(MARK)),
    "percent": b"file=%5Aq7Canary",
    "date": FIRST_DAY.strftime("on %Y-%m-%d.").encode(),
    "date of DICOM": FIRST_DAY.strftime("\t%Y%m%d\t").encode(),
    "birth": BIRTH.strftime("%Y%m%d").encode(),
    "time": f" {TIME} ".encode(),
    "uid": f"{UID_ROOT}12".encode(),
}


@pytest.mark.parametrize("content", HIDING.values(), ids=HIDING)
def test_a_mark_is_found(content, tmp_path):
    (tmp_path / "results").mkdir()
    (tmp_path / "results/file").write_bytes(content)
    assert Search().tree(tmp_path)
    assert not Search().tree(tmp_path, skip=("results",))


def test_names_and_links_are_searched(tmp_path):
    (tmp_path / base64.b64encode(MARK).decode()).touch()
    assert len(Search().tree(tmp_path)) == 1
    (tmp_path / "link").symlink_to(f"/{WORD}")
    assert len(Search().tree(tmp_path)) == 2


def test_an_unkeyed_hash_of_an_id_is_a_mark():
    import hashlib

    person = Marker("1").patient_id()
    digest = hashlib.sha256(person.encode())
    assert Search([person]).text(digest.hexdigest().encode())
    assert Search([person]).text(base64.b32encode(digest.digest())[:8])
    assert not Search().text(digest.hexdigest().encode())


def test_clean_files_are_clean(tmp_path):
    rng = np.random.default_rng(1)
    (tmp_path / "noise").write_bytes(rng.bytes(1 << 20))
    np.savez_compressed(tmp_path / "a.npz", x=rng.normal(size=(50, 50)))
    (tmp_path / "a.png").write_bytes(png())
    assert Search().tree(tmp_path) == []


def test_a_marked_file_holds_no_unmarked_text(dicom_writer):
    """Every text, date, time and UID of the file is a mark, but for what gives it its class."""
    (path,) = dicom_writer.stack([0], StationName="Tower 3", StudyTime="101112")
    dataset = pydicom.dcmread(path)
    Marker("1").mark(dataset)
    path = dicom_writer.save(dataset, "marked.dcm")
    dataset = pydicom.dcmread(path)
    search = Search()
    count = 0
    for element in dataset.iterall():
        if element.VR in {"PN", "LO", "SH", "LT", "ST", "UT", "DA", "TM", "DT", "UI", "AE"}:
            meant = element.keyword == "SOPClassUID"
            assert meant or search.text(str(element.value).encode()), element.keyword
            count += 1
    assert count > 300
    assert len(additional()) > 300
