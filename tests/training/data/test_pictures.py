"""A picture or video is the same from a folder, an archive, an archive in a folder, and bytes."""

import shutil
import subprocess
import tarfile
import zipfile

import numpy as np
import pytest

from laco_training.data.errors import DataError
from laco_training.data.pictures import Pictures


@pytest.fixture
def folder(tmp_path, make_picture):
    folder = tmp_path / "pictures"
    (folder / "clip").mkdir(parents=True)
    make_picture(1).save(folder / "a.png")
    frames = [make_picture(number) for number in range(12)]
    for number, frame in enumerate(frames):
        frame.save(folder / "clip" / f"{number}.png")
    frames[0].save(folder / "clip.webp", save_all=True, append_images=frames[1:], lossless=True)
    return folder


@pytest.fixture(params=["folder", "zip", "tar", "zip in a folder", "tar in a folder"])
def read_from(request, folder, tmp_path):
    """The pictures' root and what stands before their names."""
    if request.param == "folder":
        return Pictures(folder), ""
    kind = request.param[:3]
    shutil.make_archive(str(tmp_path / "all"), kind, folder)
    if request.param == kind:
        return Pictures(tmp_path / f"all.{kind}"), ""
    return Pictures(tmp_path), f"all.{kind}/"


def same(picture, other):
    return np.array_equal(np.asarray(picture), np.asarray(other))


def test_everywhere_alike(read_from, make_picture):
    pictures, before = read_from
    assert same(pictures.picture(before + "a.png"), make_picture(1))
    wanted = [make_picture(number) for number in (0, 4, 7, 11)]
    for name in (before + "clip", before + "clip.webp", [f"{before}clip/{i}.png" for i in range(12)]):
        frames = pictures.video(name, 4)
        assert len(frames) == 4 and all(map(same, frames, wanted))
    for name in ("none.png", before + "none.png"):
        with pytest.raises(Exception, match=r"none\.png"):
            pictures.picture(name)
    with pytest.raises(Exception, match="nowhere"):
        pictures.video(before + "nowhere", 4)


def test_bytes(folder, make_picture):
    pictures = Pictures(folder)
    assert same(pictures.picture({"bytes": (folder / "a.png").read_bytes(), "path": "x.png"}), make_picture(1))
    assert same(pictures.picture({"bytes": None, "path": "a.png"}), make_picture(1))
    clip = {"bytes": (folder / "clip.webp").read_bytes(), "path": "clip.webp"}
    assert len(pictures.video(clip, 5)) == 5
    with pytest.raises(DataError, match="neither a name nor bytes"):
        pictures.picture({"bytes": None, "path": None})
    with pytest.raises(Exception, match=r"broken\.png' is not a picture"):
        pictures.picture({"bytes": b"no picture", "path": "broken.png"})


def test_a_root_that_is_none(tmp_path):
    with pytest.raises(DataError, match="there is no images folder"):
        Pictures(tmp_path / "none")
    with pytest.raises(DataError, match="there is no images folder"):
        Pictures(tmp_path / "none.zip")
    (tmp_path / "a.rar").write_bytes(b"")
    with pytest.raises(DataError, match="neither a folder nor an archive"):
        Pictures(tmp_path / "a.rar")


def test_archives_made_by_other_programs(folder, tmp_path, make_picture):
    if not shutil.which("tar"):
        pytest.skip("needs tar")
    subprocess.run(["tar", "-cf", tmp_path / "gnu.tar", "."], cwd=folder, check=True)
    assert same(Pictures(tmp_path / "gnu.tar").picture("a.png"), make_picture(1))
    assert tarfile.is_tarfile(tmp_path / "gnu.tar")
    with zipfile.ZipFile(tmp_path / "stream.zip", "w") as archive, archive.open("a.png", "w") as member:
        member.write((folder / "a.png").read_bytes())  # sizes stand behind the member, not in its header
    assert same(Pictures(tmp_path / "stream.zip").picture("a.png"), make_picture(1))
