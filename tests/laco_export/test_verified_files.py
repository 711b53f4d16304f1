"""A file is hashed once, and again where it may be another; what is not the manifest's is refused."""

import os
import time

import pytest

from laco_export import verified_files
from laco_export.errors import BundleError
from laco_export.verified_files import open_verified, sha256_of


@pytest.fixture
def weights(tmp_path):
    """A file that was written long enough ago for a change to show in its times."""
    path = tmp_path / "bundle" / "vision.data"
    path.parent.mkdir()
    path.write_bytes(b"weights" * 100)
    time.sleep(0.03)
    return path


@pytest.fixture
def reopen(weights, monkeypatch):
    """``reopen()``: what is read, and whether the file was hashed for it."""
    expected = {"bytes": weights.stat().st_size, "sha256": sha256_of(weights)}
    states, hashed, check = {}, [], verified_files._require_content
    monkeypatch.setattr(verified_files, "_require_content", lambda *given: (hashed.append(1), check(*given)))

    def open_again():
        hashed.clear()
        with open_verified(weights.parent, weights.name, expected, states) as file:
            return file.read(), bool(hashed)

    return open_again


def test_a_file_is_hashed_once(reopen, weights):
    content = weights.read_bytes()
    assert reopen() == (content, True)
    assert reopen() == (content, False)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(bytes(path.stat().st_size)),
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
        lambda path: (path.unlink(), path.symlink_to("/etc/hostname")),
        lambda path: (path.unlink(), os.mkfifo(path)),
        lambda path: (path.unlink(), path.mkdir()),
    ],
    ids=["zeroed", "emptied", "removed", "a link that leads out", "a named pipe", "a folder"],
)
def test_a_file_that_is_another_by_now_is_refused(reopen, weights, change):
    reopen()
    change(weights)
    with pytest.raises(BundleError):
        reopen()


def test_a_change_whose_times_were_put_back_is_refused(reopen, weights):
    reopen()
    before = weights.stat()
    weights.write_bytes(bytes(before.st_size))
    os.utime(weights, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(BundleError, match="SHA-256"):
        reopen()


def test_the_same_content_in_another_file_is_taken(reopen, weights):
    content, _ = reopen()
    copy = weights.with_name("copy")
    copy.write_bytes(content)
    os.replace(copy, weights)
    assert reopen() == (content, True)


def test_a_file_that_was_written_just_now_is_not_known_by_its_times(reopen, weights):
    """A change within the same tick of the clock would leave them as they are."""
    content = weights.read_bytes()
    weights.write_bytes(content)
    assert reopen() == (content, True)
    assert reopen() == (content, True)
    time.sleep(0.03)
    assert reopen() == (content, True)
    assert reopen() == (content, False)


def test_python_3_10_hashes_the_same(weights):
    with open(weights, "rb") as file:
        assert verified_files._sha256_blocks(file) == sha256_of(weights)
