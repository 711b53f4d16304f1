"""Outputs are complete or absent, whatever happens while they are written."""

import os
import signal
import subprocess
import sys
import time

import pytest

from laco_export import atomic
from laco_export.errors import OutputExistsError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_a_folder_appears_when_its_block_ends(tmp_path):
    final = tmp_path / "deep" / "out"
    with atomic.new_directory(final) as partial:
        (partial / "file").write_text("new")
        assert not final.exists()
        assert partial.parent == final.parent
    assert names(final.parent) == ["out"]
    assert (final / "file").read_text() == "new"


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_nothing_is_left_after_an_error(tmp_path, error):
    with pytest.raises(error), atomic.new_directory(tmp_path / "out") as partial:
        (partial / "file").write_text("new")
        raise error
    assert names(tmp_path) == []


def test_an_existing_folder_is_refused_before_any_work(tmp_path):
    (tmp_path / "out").mkdir()
    with pytest.raises(OutputExistsError, match="exists already"), atomic.new_directory(tmp_path / "out"):
        pytest.fail("the block ran")
    assert names(tmp_path) == ["out"]


def test_a_dangling_link_counts_as_taken(tmp_path):
    (tmp_path / "out").symlink_to(tmp_path / "nowhere")
    with pytest.raises(OutputExistsError):
        atomic.refuse_existing(tmp_path / "out", force=False)


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_force_replaces_what_stands_there(tmp_path, kind):
    final = tmp_path / "out"
    if kind == "folder":
        final.mkdir()
        (final / "old").write_text("old")
    elif kind == "file":
        final.write_text("old")
    else:
        (tmp_path / "target").mkdir()
        final.symlink_to(tmp_path / "target")
    with atomic.new_directory(final, force=True) as partial:
        (partial / "new").write_text("new")
    assert names(final) == ["new"]
    assert names(tmp_path) == (["out", "target"] if kind == "link" else ["out"])


@pytest.mark.parametrize("kind", ["folder", "file", "link"])
def test_of_two_runs_to_one_name_the_first_wins_and_the_other_is_told(tmp_path, kind):
    """Whatever has taken the name while the block ran stays as it is."""
    final = tmp_path / "out"
    with pytest.raises(OutputExistsError, match="while this one was made"), atomic.new_directory(final) as partial:
        (partial / "late").write_text("late")
        if kind == "folder":
            final.mkdir()
            (final / "first").write_text("first")
        elif kind == "file":
            final.write_text("first")
        else:
            final.symlink_to("nowhere")
    assert names(tmp_path) == ["out"]
    assert (kind == "folder" and names(final) == ["first"]) or final.is_symlink() or final.read_text() == "first"


def test_with_force_the_later_run_replaces_the_earlier(tmp_path):
    final = tmp_path / "out"
    with atomic.new_directory(final, force=True) as partial:
        (partial / "late").write_text("late")
        final.mkdir()
        (final / "first").write_text("first")
    assert names(tmp_path) == ["out"]
    assert names(final) == ["late"]


def test_what_may_not_be_replaced_is_asked_for_before_the_work_and_after_it(tmp_path):
    final = tmp_path / "out"

    def refuse(path):
        if path.is_dir() and names(path) == ["mine"]:
            raise OutputExistsError("mine")

    with pytest.raises(OutputExistsError, match="mine"), atomic.new_directory(final, force=True, refuse=refuse):
        final.mkdir()
        (final / "mine").write_text("mine")
    assert names(tmp_path) == ["out"]
    with pytest.raises(OutputExistsError, match="mine"), atomic.new_directory(final, force=True, refuse=refuse):
        pytest.fail("the block ran")
    assert names(final) == ["mine"]


def test_force_keeps_the_old_until_the_new_is_complete(tmp_path):
    final = tmp_path / "out"
    final.mkdir()
    (final / "old").write_text("old")
    with pytest.raises(RuntimeError), atomic.new_directory(final, force=True) as partial:
        (partial / "new").write_text("new")
        assert names(final) == ["old"]
        raise RuntimeError
    assert names(tmp_path) == ["out"]
    assert names(final) == ["old"]


def test_the_old_comes_back_when_the_exchange_fails(tmp_path, monkeypatch):
    final = tmp_path / "out"
    final.mkdir()
    (final / "old").write_text("old")
    rename = os.rename

    def fail_on_the_new(source, target):
        if ".partial-" in str(source):
            raise OSError(28, "No space left on device")
        rename(source, target)

    monkeypatch.setattr(os, "rename", fail_on_the_new)
    with pytest.raises(OSError, match="No space"), atomic.new_directory(final, force=True) as partial:
        (partial / "new").write_text("new")
    assert names(tmp_path) == ["out"]
    assert names(final) == ["old"]


def test_a_killed_run_leaves_the_old_and_the_next_run_cleans_up(tmp_path):
    final = tmp_path / "out"
    final.mkdir()
    (final / "old").write_text("old")
    code = (
        "import sys, time; from laco_export.atomic import new_directory\n"
        f"with new_directory({str(final)!r}, force=True) as partial:\n"
        "    (partial / 'new').write_text('new'); print('ready', flush=True); time.sleep(60)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert names(final) == ["old"]
    assert len(names(tmp_path)) == 2
    with atomic.new_directory(final, force=True) as partial:
        (partial / "newer").write_text("newer")
    assert names(tmp_path) == ["out"]
    assert names(final) == ["newer"]


def test_an_old_folder_that_was_set_aside_comes_back(tmp_path):
    aside = tmp_path / f".out.replaced-{dead_pid()}-00ff"
    aside.mkdir()
    (aside / "old").write_text("old")
    atomic.recover(tmp_path / "out")
    assert names(tmp_path) == ["out"]
    assert names(tmp_path / "out") == ["old"]


def test_what_a_living_process_writes_is_left_alone(tmp_path):
    living = tmp_path / f".out.partial-{os.getppid()}-00ff"
    living.mkdir()
    other = tmp_path / f".other.partial-{dead_pid()}-00ff"
    other.mkdir()
    atomic.recover(tmp_path / "out")
    assert living.is_dir()
    assert other.is_dir()


def test_a_killed_run_of_the_same_number_is_cleaned_up(tmp_path):
    """In a container the process is often the same number every time."""
    (tmp_path / f".out.partial-{os.getpid()}-00ff").mkdir()
    with atomic.new_directory(tmp_path / "out"):
        pass
    assert names(tmp_path) == ["out"]


def test_a_file_is_replaced_in_one_step(tmp_path, monkeypatch):
    path = tmp_path / "file.json"
    atomic.write_json(path, {"a": "é"})
    assert path.read_text(encoding="utf-8") == '{\n  "a": "é"\n}\n'
    monkeypatch.setattr(os, "fsync", lambda descriptor: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space"):
        atomic.write_text(path, "new")
    assert path.read_text(encoding="utf-8") == '{\n  "a": "é"\n}\n'
    assert names(tmp_path) == ["file.json"]


def test_the_clean_up_is_quick_among_many_files(tmp_path):
    for index in range(2000):
        (tmp_path / f"file{index}").touch()
    start = time.perf_counter()
    atomic.recover(tmp_path / "out")
    assert time.perf_counter() - start < 1


def test_exchange_replaces_what_stands(tmp_path):
    """Also where a run was killed between the two renames: the old folder comes back first, and is replaced then."""
    for name in ("new", f".out.replaced-{dead_pid()}-0a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name.strip(".")).write_text("x")
    atomic.exchange(tmp_path / "new", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["new"]
