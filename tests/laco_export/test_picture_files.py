"""Which files are pictures."""

import pytest

from laco_export.errors import UsageError
from laco_export.picture_files import picture_files


def test_a_folder_is_walked_and_a_file_is_taken_as_it_is(tmp_path):
    for name in ("b.PNG", "inner/a.avif", "inner/deeper/c.ppm", "notes.txt", "odd.bin"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    found = picture_files([tmp_path, tmp_path / "odd.bin"])
    assert [path.relative_to(tmp_path).as_posix() for path in found] == [
        "b.PNG",
        "inner/a.avif",
        "inner/deeper/c.ppm",
        "odd.bin",
    ]


def test_a_folder_without_pictures_is_refused(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(UsageError, match="no pictures"):
        picture_files([tmp_path])
