"""What every command shares: the console, progress, the steps of long work, and how an error reaches the user.

Messages and progress go to stderr, so that stdout carries only the answer or the ``--json`` document.
Rich is imported when something is first shown, so that ``--help`` stays quick.
"""

from __future__ import annotations

import errno
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

from .errors import LacoError, UsageError, is_panic
from .progress_lines import ProgressLines
from .required_packages import package_missing
from .standard_streams import discard, standard_streams
from .unneeded_packages import without_unneeded_packages


@cache
def console():
    """The shared Rich console on stderr."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """Print ``text`` on stderr as it is: no word is broken, so that a path can be copied, and no bracket is markup."""
    console().print(text, markup=False, soft_wrap=True)


def can_redraw() -> bool:
    """Whether stderr is a terminal that can redraw a line; a log gets lines instead, whatever ``FORCE_COLOR`` says."""
    return console().is_interactive and console().file.isatty()


@contextmanager
def progress(description: str, total: float | None = None, *, transient: bool = False) -> Iterator[Callable[..., None]]:
    """Show how far the work is while the block runs: a bar (a spinner when ``total`` is None) with times on a terminal,
    a line each so many seconds elsewhere (:mod:`.progress_lines`).

    Args:
        total: the parts of the work.
        transient: take the bar from the terminal when the block ends.

    Yields:
        ``advance(steps=1, description=None, note=None)``, to be called as work is done. The description says what runs
        now; the note is a short text about it, such as the loss. Each holds until another is given.
    """
    if not can_redraw():
        with ProgressLines(description, total, say) as lines:
            yield lines.advance
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        SpinnerColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    counted = [] if total is None else [BarColumn(), MofNCompleteColumn()]
    left = [] if total is None else [TimeRemainingColumn()]
    text = lambda field: TextColumn(f"{{task.{field}}}", markup=False)
    columns = [SpinnerColumn(), text("description"), *counted, TimeElapsedColumn(), *left, text("fields[note]")]
    with Progress(*columns, console=console(), transient=transient) as bar:
        task = bar.add_task(description, total=total, note="")

        def advance(steps: float = 1, description: str | None = None, note: str | None = None) -> None:
            shown = {"description": description or None, "note": note}
            bar.update(task, advance=steps, **{name: value for name, value in shown.items() if value is not None})

        yield advance


class Steps:
    """The steps of a command's work as the user sees them: progress while one runs, then its seconds.

    Attributes:
        seconds: step → seconds, in order; those of a step that runs again are added.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def step(self, name: str, total: int | None = None) -> Iterator[Callable[..., None]]:
        """Show ``name`` while the block runs; yields the ``advance`` of its progress of ``total`` parts."""
        start = time.perf_counter()
        with progress(name, total) as advance:
            yield advance
        spent = time.perf_counter() - start
        self.seconds[name] = round(self.seconds.get(name, 0) + spent, 3)
        if not can_redraw():  # a terminal keeps the progress line with its seconds
            say(f"{name}: {spent:.1f} s")


def run_command(main: Callable[[], int | None], *, debug: bool = False) -> int:
    """Run a command's body and turn whatever it raises into a message and an exit code.

    Inside it a stderr that is closed or full costs no answer (:mod:`.standard_streams`), and packages that no command
    needs are not imported by those that commands do need (:mod:`.unneeded_packages`).

    Returns:
        0 on success, 2 for wrong usage, 1 for a failure, 130 when interrupted. With ``debug`` the exception passes.
    """
    with standard_streams(), without_unneeded_packages():
        try:
            _refuse_stripped_docstrings()
            code = main() or 0
            sys.stdout.flush()
            return code
        except KeyboardInterrupt:
            _say_error("interrupted; nothing was left half-written")
            return 130
        except BrokenPipeError:
            discard(sys.stdout)
            return 1
        except BaseException as error:
            if debug or not (isinstance(error, Exception) or is_panic(error)):
                raise
            return _tell(error)


def _tell(error: BaseException) -> int:
    """Say what happened; returns the exit code."""
    if isinstance(error, LacoError):
        return _say_error(str(error), error.exit_code)
    if isinstance(error, ModuleNotFoundError):
        missing = package_missing(error.name or "")
        return _internal_error(error) if missing is None else _say_error(str(missing))
    if isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        where = f" ({error.filename})" if error.filename else ""
        todo = "\n  do:      free some space, or choose another --output; nothing was left half-written"
        return _say_error(f"{'the disk is full' if full else error.strerror or error}{where}{todo * full}")
    if isinstance(error, MemoryError):
        what = f"the memory ran out: {error}" if str(error) else "the memory ran out"
        return _say_error(f"{what}\n  do:      ask for less at once (a smaller batch), or use a machine with more")
    if isinstance(error, RecursionError):
        return _say_error(
            "a file is nested more deeply than can be followed: brackets in brackets, most often in a JSON file\n"
            "  do:      get the file again; with --debug the traceback shows which one is read"
        )
    if is_panic(error):
        return _say_error(
            f"a library in Rust (tokenizers, safetensors) gave up: {error}\n"
            "  do:      most often a file is damaged: get it again; with --debug the traceback shows which one is read"
        )
    return _internal_error(error)


def _refuse_stripped_docstrings() -> None:
    if sys.flags.optimize > 1:
        raise UsageError(
            "Python was started without docstrings, and transformers, which assembles its own, cannot run so",
            given="PYTHONOPTIMIZE=2, or python -OO",
            allowed="PYTHONOPTIMIZE=1, python -O, or neither",
        )


def _internal_error(error: BaseException) -> int:
    """A bug of ours: one line for the user, the traceback on demand."""
    what = f"internal error: {type(error).__name__}: {error}"
    return _say_error(f"{what}\n  do:      run again with --debug and report the traceback")


def _say_error(message: str, code: int = 1) -> int:
    from rich.text import Text

    console().print(Text("error: ", style="bold red") + Text(message), soft_wrap=True)
    return code
