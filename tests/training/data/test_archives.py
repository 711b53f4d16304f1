"""Members of real zips and tars by name; processes at once; archives that are damaged."""

import io
import os
import pickle
import tarfile
import zipfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest

from laco_training.data.archives import Archive
from laco_training.data.errors import DataError

FILES = {f"deep/folder/{i:03}.bin": os.urandom(200 + i) for i in range(60)} | {
    "täg.txt": b"text " * 500,
    "empty": b"",
    "a/b.txt": b"b",
    "a/bc.txt": b"bc",
    "x" * 150 + "/long.txt": b"long",
}


def write_zip(path, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.mkdir("deep")
        for name, data in FILES.items():
            archive.writestr(name, data)
    return path


def write_tar(path, mode="w", format=tarfile.PAX_FORMAT):
    with tarfile.open(path, mode, format=format) as archive:
        for name, data in FILES.items():
            entry = tarfile.TarInfo("./" + name)  # as ``tar -cf a.tar .`` names them
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return path


@pytest.fixture(params=["deflated", "stored", "pax", "gnu"])
def archive(request, tmp_path):
    if request.param in ("deflated", "stored"):
        method = zipfile.ZIP_STORED if request.param == "stored" else zipfile.ZIP_DEFLATED
        return Archive(write_zip(tmp_path / "a.zip", method))
    return Archive(
        write_tar(tmp_path / "a.tar", format=tarfile.PAX_FORMAT if request.param == "pax" else tarfile.GNU_FORMAT)
    )


def test_every_member(archive):
    assert len(archive) == len(FILES)
    for name, data in reversed(FILES.items()):
        assert archive.read(name) == data == archive.read("./" + name)
    assert archive.folder("a") == ["a/b.txt", "a/bc.txt"]
    assert archive.folder("deep/folder/") == sorted(name for name in FILES if name.startswith("deep"))
    assert archive.folder("nothing") == []
    for name in ("", "a", "a/b", "a/b.tx", "zzz", "deep/folder"):
        with pytest.raises(DataError, match="holds no file"):
            archive.read(name)


def _read_all(archive):
    return all(archive.read(name) == data for name, data in FILES.items() for _ in range(20) if len(name) < 100)


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_processes_read_at_once(archive, start):
    assert _read_all(archive)  # the parent's handle is open
    if start == "spawn":
        assert pickle.loads(pickle.dumps(archive)).read("a/b.txt") == b"b"
        return
    with ProcessPoolExecutor(3, mp_context=get_context(start)) as pool:
        assert all(pool.map(_read_all, [archive] * 6))
    assert _read_all(archive)


def test_of_two_members_of_one_name_the_last_counts(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("a", b"old")
        archive.writestr("a", b"new")
    assert Archive(tmp_path / "a.zip").read("a") == b"new"


def test_a_damaged_member_is_found(tmp_path):
    path = write_zip(tmp_path / "a.zip", zipfile.ZIP_STORED)
    data = bytearray(path.read_bytes())
    data[data.index(FILES["deep/folder/007.bin"]) + 3] ^= 255
    path.write_bytes(data)
    archive = Archive(path)
    with pytest.raises(DataError, match=r"007\.bin' in archive '.*' is damaged"):
        archive.read("deep/folder/007.bin")
    assert archive.read("deep/folder/008.bin") == FILES["deep/folder/008.bin"]
    path = write_zip(tmp_path / "b.zip")
    data = bytearray(path.read_bytes())
    place = data.index("täg.txt".encode()) + len("täg.txt".encode())
    data[place] = 255
    path.write_bytes(data)
    with pytest.raises(DataError, match=r"täg\.txt' in archive '.*' is damaged"):
        Archive(path).read("täg.txt")


def test_archives_that_cannot_be_used(tmp_path):
    with pytest.raises(DataError, match="there is no archive"):
        Archive(tmp_path / "none.zip")
    data = write_zip(tmp_path / "a.zip").read_bytes()
    (tmp_path / "cut.zip").write_bytes(data[: len(data) // 2])
    with pytest.raises(DataError, match="cannot be read"):
        Archive(tmp_path / "cut.zip")
    write_tar(tmp_path / "compressed.tar", "w:gz")
    with pytest.raises(DataError, match=r"cannot be read(.|\n)*without compression"):
        Archive(tmp_path / "compressed.tar")
    with zipfile.ZipFile(tmp_path / "lzma.zip", "w", zipfile.ZIP_LZMA) as archive:
        archive.writestr("a", b"a")
    with pytest.raises(DataError, match="packed in an unusual way"):
        Archive(tmp_path / "lzma.zip")
    data = write_tar(tmp_path / "a.tar").read_bytes()
    (tmp_path / "cut.tar").write_bytes(data[: data.index(b"long")])
    with pytest.raises(DataError):
        Archive(tmp_path / "cut.tar").read("x" * 150 + "/long.txt")
