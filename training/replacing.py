"""``--force`` where a run stands: the new one is trained beside it and takes its place when it is complete.

The folder beside it, ``<output>.new``, outlives an interruption: ``--resume`` goes on there. A mark in it says whose it
is, so that no folder is touched that only happens to have this name.
"""

from __future__ import annotations

import os
import shutil
from fnmatch import fnmatchcase
from pathlib import Path

from laco_export.atomic import exchange, new_directory, recover, write_json
from laco_export.checkpoint_files import refuse_to_replace_non_checkpoint
from laco_export.errors import OutputExistsError

_MARK = "replaces.json"
_OWN_NAMES = (
    *("recipe.json", "training.json", "losses.png", "data", "checkpoint", "frozen-outputs", "tensorboard", "stage-*"),
    _MARK,
)
"""Patterns of what a run leaves in its folder (:mod:`.run`)."""


def refuse_to_replace_others(output: Path, *, whole: bool) -> None:
    """Let ``--force`` replace what an earlier run left, its folder (``whole``) or the copy of its last checkpoint, and
    nothing else that a person may have.

    Raises:
        OutputExistsError: something else stands there, or other files stand in it.
    """
    if not whole:
        refuse_to_replace_non_checkpoint(output / "checkpoint")
        return
    if not os.path.lexists(output) or (output.is_dir() and not any(output.iterdir())):
        return
    if not (output / "recipe.json").is_file():
        raise OutputExistsError(
            f"the output '{output}' exists already and is no run of laco-train, so that --force does not replace it",
            allowed="--force replaces a folder with a recipe.json",
            todo="choose another --output, or remove what stands there yourself",
        )
    others = sorted(
        path.name for path in output.iterdir() if not any(fnmatchcase(path.name, own) for own in _OWN_NAMES)
    )
    if others:
        raise OutputExistsError(
            f"the output '{output}' holds files that are not the run's, so that --force does not replace it",
            given=", ".join(ascii(name)[1:-1] for name in others[:3]) + (" …" if len(others) > 3 else ""),
            allowed=", ".join(_OWN_NAMES[:-1]),
            todo="move them, or choose another --output",
        )


def refuse_to_replace_start(output: Path, checkpoint: Path | str) -> None:
    """What a run or a student starts from, and is judged by, is not replaced by it.

    Raises:
        OutputExistsError: ``checkpoint`` is what stands at ``output``, or lies in it.
    """
    if Path(checkpoint).resolve().is_relative_to(Path(output).resolve()):
        raise OutputExistsError(
            f"'{checkpoint}', which is started from, would be replaced",
            given=f"the output '{output}'",
            todo="choose another --output",
        )


def beside(output: Path) -> Path:
    """Where the run that is to replace ``output`` is trained."""
    output = Path(os.path.abspath(output))
    return output.with_name(f"{output.name}.new")


def is_begun(output: Path) -> bool:
    """Whether a replacement of ``output`` was begun and not finished."""
    return (beside(output) / _MARK).is_file()


def begin(output: Path) -> None:
    """A new folder beside ``output``; one that an interrupted replacement left is given up.

    Raises:
        OutputExistsError: something else has this name.
    """
    folder = beside(output)
    give_up(output)
    if os.path.lexists(folder):
        raise OutputExistsError(
            f"'{folder}' exists already, where the run that replaces '{output}' would be trained",
            todo="rename or remove it, or choose another --output",
        )
    with new_directory(folder) as new:
        write_json(new / _MARK, {"replaces": Path(os.path.abspath(output)).name})


def give_up(output: Path) -> None:
    """Remove what an interrupted replacement left."""
    if is_begun(output):
        shutil.rmtree(beside(output))


def finish(output: Path) -> None:
    """Put the complete new run in the place of the old one, which is removed then."""
    exchange(beside(output), output)
    (output / _MARK).unlink()


def recover_exchange(output: Path) -> None:
    """Put the old run back where a process was killed while the new one took its place."""
    if output.parent.is_dir():
        recover(Path(os.path.abspath(output)))
