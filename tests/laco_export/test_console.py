"""How a command ends: what is said on stderr, and the exit code."""

import errno

import pytest

from laco_export.console import console, run_command, say
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


def test_success():
    assert run_command(lambda: None) == 0
    assert run_command(lambda: 3) == 3


def test_what_is_said_can_be_copied(capsys):
    path = "/data/" + "-".join(["cameras"] * 40) + "/[red]/run.new"
    say(f"the new run: {path}")
    assert capsys.readouterr().err == f"the new run: {path}\n"
