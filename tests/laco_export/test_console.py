"""What a command shows of its work on a terminal and in a log, how it ends, and its exit code."""

import errno
import os
import re
import subprocess
import sys

import pytest

from laco_export.console import Steps, can_redraw, console, progress, run_command, say
from laco_export.errors import CheckpointError, DepthError


def fail(error):
    def main():
        raise error

    return main


@pytest.fixture(autouse=True)
def plain_console(monkeypatch):
    """The shared console is made once; a captured stderr needs a new one."""
    monkeypatch.setenv("COLUMNS", "200")
    console.cache_clear()
    yield
    console.cache_clear()


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (CheckpointError("it is broken", given="7 bytes", allowed="8", todo="get it again"), 1, "it is broken"),
        (DepthError("no such depth"), 2, "no such depth"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (OSError(errno.ENOSPC, "No space left on device", "out/x"), 1, "the disk is full (out/x)"),
        (PermissionError(errno.EACCES, "Permission denied", "secret"), 1, "Permission denied (secret)"),
        (ModuleNotFoundError("No module named 'torch'", name="torch"), 1, "pip install 'laco-export[cpu]'"),
        (ModuleNotFoundError("No module named 'x'", name="x"), 1, "internal error: ModuleNotFoundError"),
        (ValueError("a bug"), 1, "internal error: ValueError: a bug"),
        (RecursionError("maximum recursion depth exceeded"), 1, "nested more deeply"),
        (type("PanicException", (BaseException,), {})("regex gave up"), 1, "gave up: regex gave up"),
    ],
)
def test_errors(capsys, error, code, said):
    assert run_command(fail(error)) == code
    captured = capsys.readouterr()
    assert said in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_an_error_says_all_four_things(capsys):
    run_command(fail(CheckpointError("it failed", given="this", allowed="that", todo="do so")))
    lines = capsys.readouterr().err.splitlines()
    assert lines == ["error: it failed", "  given:   this", "  allowed: that", "  do:      do so"]


def test_markup_in_messages_is_text(capsys):
    run_command(fail(CheckpointError("file '[red]x[/red]'")))
    assert "[red]x[/red]" in capsys.readouterr().err


def test_debug_lets_it_through():
    for error in (CheckpointError("x"), ValueError("x"), OSError("x"), ModuleNotFoundError("x", name="torch")):
        with pytest.raises(type(error)):
            run_command(fail(error), debug=True)


def test_what_ends_a_process_on_purpose_passes():
    with pytest.raises(SystemExit):
        run_command(fail(SystemExit(3)))


def test_python_without_docstrings_is_refused():
    code = "from laco_export.console import run_command; raise SystemExit(run_command(lambda: print('ran')))"
    for level, status in ((1, 0), (2, 2)):
        ended = subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"PYTHONOPTIMIZE": str(level)},
            capture_output=True,
            text=True,
        )
        assert ended.returncode == status, ended.stderr
        assert ("PYTHONOPTIMIZE=2" in ended.stderr) == (status == 2)


def test_success():
    assert run_command(lambda: None) == 0
    assert run_command(lambda: 3) == 3


def test_what_is_said_can_be_copied(capsys):
    path = "/data/" + "-".join(["cameras"] * 40) + "/[red]/run.new"
    say(f"the new run: {path}")
    assert capsys.readouterr().err == f"the new run: {path}\n"


WORK = """
import time
from laco_export import progress_lines
from laco_export.console import Steps, progress
progress_lines.FIRST_AFTER, progress_lines.EVERY = 0.3, 0.3
with progress("stage-1", 3) as advance:
    advance(0)
    for step in range(3):
        time.sleep(0.4)
        advance(1, note=f"loss {3 - step}.000 [nats]")
steps = Steps()
with steps.step("compile") as advance:
    advance(0, "building [vision_b1.onnx]")
    time.sleep(0.8)
"""


def test_without_a_terminal_lines_tell_of_the_work():
    """As under nohup or in a container, and where FORCE_COLOR asks Rich for a terminal's colours."""
    for force in ({}, {"FORCE_COLOR": "1"}):
        ended = subprocess.run([sys.executable, "-c", WORK], env=os.environ | force, capture_output=True, text=True)
        assert (ended.returncode, ended.stdout) == (0, "")
        lines = re.sub(r"\x1b\[[0-9;]*m", "", ended.stderr).splitlines()
        assert lines[0] == "stage-1: 0 of 3, 0:00 elapsed"
        assert any(re.fullmatch(r"stage-1: 1 of 3, loss 3\.000 \[nats\], .* a second, .* left", line) for line in lines)
        assert "building [vision_b1.onnx]: 0:01 elapsed" in lines or "building [vision_b1.onnx]: 0:00 elapsed" in lines
        assert re.fullmatch(r"compile: 0\.[89] s|compile: 1\.\d s", lines[-1])
        assert len(lines) < 10


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo-terminal")
def test_on_a_terminal_the_bar_carries_the_note():
    import pty

    ours, theirs = pty.openpty()
    terminal = {"TERM": "xterm", "COLUMNS": "120"}
    with subprocess.Popen([sys.executable, "-c", WORK], env=os.environ | terminal, stderr=theirs) as process:
        os.close(theirs)
        shown = b""
        try:
            while piece := os.read(ours, 65536):
                shown += piece
        except OSError:  # the other end was closed
            pass
        assert process.wait(60) == 0
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.decode())
    assert re.search(r"stage-1 .*3/3 .*loss 1\.000 \[nats\]", text)
    assert "building [vision_b1.onnx]" in text
    assert "elapsed" not in text and "compile: " not in text


def test_a_step_keeps_its_seconds(capsys):
    steps = Steps()
    for _ in range(2):
        with steps.step("compile", 2) as advance:
            advance()
    assert not can_redraw()
    assert list(steps.seconds) == ["compile"]
    assert capsys.readouterr().err.splitlines() == ["compile: 0.0 s"] * 2


def test_short_work_is_silent_in_a_log(capsys):
    with progress("held-out questions", 2) as advance:
        advance(1, "questions", note="right so far")
    assert capsys.readouterr().err == ""
