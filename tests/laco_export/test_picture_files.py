"""Which files are pictures."""

import pytest
from PIL import Image

from laco_export.errors import UsageError
from laco_export.picture_files import PICTURE_SUFFIXES, PILLOW_FORMATS, picture_files


def test_a_folder_is_walked_and_a_file_is_taken_as_it_is(tmp_path):
    for name in ("b.PNG", "inner/a.avif", "inner/deeper/c.ppm", "notes.txt", "odd.bin"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    files = picture_files([tmp_path, tmp_path / "odd.bin"])
    assert [path.relative_to(tmp_path).as_posix() for path in files] == [
        "b.PNG",
        "inner/a.avif",
        "inner/deeper/c.ppm",
        "odd.bin",
    ]


def test_hidden_pictures_are_left_out(tmp_path):
    for name in ("a.png", "._a.png", ".trash/b.png", "inner/._c.jpg", "inner/c.jpg"):
        (tmp_path / ".photos" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / ".photos" / name).touch()
    files = picture_files([tmp_path / ".photos", tmp_path / ".photos" / "._a.png"])
    named = [path.relative_to(tmp_path / ".photos").as_posix() for path in files]
    assert named == ["a.png", "inner/c.jpg", "._a.png"], "what is asked for by name is taken"


def test_a_folder_without_pictures_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match="no pictures"):
        picture_files([tmp_path])


def test_every_file_that_counts_as_a_picture_is_of_a_format_that_is_read():
    Image.init()
    formats = {suffix: Image.registered_extensions().get(suffix) for suffix in PICTURE_SUFFIXES}
    assert set(formats.values()) <= set(PILLOW_FORMATS), formats


def test_several_folders_keep_their_order(tmp_path):
    for name in ("second/a.png", "first/b.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    files = picture_files([tmp_path / "second", tmp_path / "first", tmp_path / "absent.png"])
    assert [path.name for path in files] == [
        "a.png",
        "b.png",
        "absent.png",
    ]  # whoever reads the last says what is wrong
