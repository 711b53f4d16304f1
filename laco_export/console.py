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

from .errors import LacoError

_EXTRA_OF = {
    "torch": "cpu",
    "transformers": "cpu",
    "safetensors": "cpu",
    "onnx": "cpu",
    "onnxscript": "cpu",
    "onnx_graphsurgeon": "cpu",
    "polygraphy": "cpu",
    "optimum": "cpu",
    "onnxruntime": "cpu",
    "matplotlib": "plots",
    "accelerate": "train",
    "datasets": "train",
    "fastapi": "serve",
    "prometheus_client": "serve",
    "uvicorn": "serve",
}
"""Top-level module -> the extra that installs it."""


@cache
def console():
    """The shared Rich console on stderr."""
    from rich.console import Console

    return Console(stderr=True, highlight=False)


def say(text: str) -> None:
    """Print ``text`` on stderr as it is: no word is broken, so that a path can be copied, and no bracket is markup."""
    console().print(text, markup=False, soft_wrap=True)


@contextmanager
def progress(description: str, total: float | None = None) -> Iterator[Callable[..., None]]:
    """Show a progress bar (or a spinner when ``total`` is None) with elapsed time while the block runs.

    Yields:
        ``advance(steps=1, description=None)``, to be called as work is done.
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = [SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()]
    if total is not None:
        columns[2:2] = [BarColumn(), MofNCompleteColumn()]
    with Progress(*columns, console=console(), transient=not console().is_terminal) as bar:
        task = bar.add_task(description, total=total)

        def advance(steps: float = 1, description: str | None = None) -> None:
            bar.update(task, advance=steps, **({"description": description} if description else {}))

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
        """Show ``name`` while the block runs; yields the ``advance`` of its progress bar of ``total`` parts."""
        start = time.perf_counter()
        if console().is_terminal:  # the progress line stays there with its seconds
            with progress(name, total) as advance:
                yield advance
        else:
            yield lambda steps=1, description=None: None
        spent = time.perf_counter() - start
        self.seconds[name] = round(self.seconds.get(name, 0) + spent, 3)
        if not console().is_terminal:
            say(f"{name}: {spent:.1f} s")


def run_command(main: Callable[[], int | None], *, debug: bool = False) -> int:
    """Run a command's body and turn whatever it raises into a message and an exit code.

    Returns:
        0 on success, 2 for wrong usage, 1 for a failure, 130 when interrupted. With ``debug`` the exception passes.
    """
    try:
        return main() or 0
    except KeyboardInterrupt:
        _say_error("interrupted; nothing was left half-written")
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except LacoError as error:
        if debug:
            raise
        _say_error(str(error))
        return error.exit_code
    except ModuleNotFoundError as error:
        package = (error.name or "").split(".")[0]
        if debug:
            raise
        if package not in _EXTRA_OF:
            return _internal_error(error)
        _say_error(
            f"this command needs the package '{package}', which is not installed\n"
            f"  do:      pip install 'laco-export[{_EXTRA_OF[package]}]' (on a Jetson: see the extra 'jetson')"
        )
        return 1
    except OSError as error:
        if debug:
            raise
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        where = f" ({error.filename})" if error.filename else ""
        _say_error(
            f"{'the disk is full' if full else error.strerror or error}{where}"
            + (
                "\n  do:      free some space, or choose another --output; nothing was left half-written"
                if full
                else ""
            )
        )
        return 1
    except MemoryError as error:
        if debug:
            raise
        what = f"the memory ran out: {error}" if str(error) else "the memory ran out"
        _say_error(f"{what}\n  do:      ask for less at once (a smaller batch), or use a machine with more")
        return 1
    except Exception as error:  # a bug of ours: one line for the user, the traceback on demand
        if debug:
            raise
        return _internal_error(error)


def _internal_error(error: Exception) -> int:
    what = f"internal error: {type(error).__name__}: {error}"
    _say_error(f"{what}\n  do:      run again with --debug and report the traceback")
    return 1


def _say_error(message: str) -> None:
    from rich.text import Text

    console().print(Text("error: ", style="bold red") + Text(message), soft_wrap=True)
