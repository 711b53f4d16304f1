"""Checkpoints inside a stage, to resume from: HF's own, and a mark on those that are complete.

HF's Trainer writes ``checkpoint-<step>`` file by file (weights, optimiser, schedule, one random state per process,
``trainer_state.json``). A run killed in between leaves a part of one. Here the mark ``complete.json`` is written when
all processes are done and all files are on the disk, and only then the checkpoint before it is removed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from transformers import TrainerCallback

from laco_export.atomic import write_json
from laco_export.errors import UsageError

from . import processes
from .stage_data import save_position

COMPLETE_MARK = "complete.json"


class CheckpointKeeper(TrainerCallback):
    """Marks each checkpoint that is complete, and keeps the newest of them alone.

    Args:
        dataset: the stage's data, whose position is kept where it is a stream.
        origin: what the stage is made from, see :func:`check_origin`.
    """

    def __init__(self, dataset, origin: dict):
        self.dataset, self.origin = dataset, origin

    def on_train_begin(self, args, state, control, **_) -> None:
        state.compute_steps(args, state.max_steps)  # a resumed state brings its own save_steps: the recipe's are meant

    def on_step_end(self, args, state, control, **_) -> None:
        if state.global_step >= state.max_steps:
            control.should_save = False  # HF's save at the end: the stage's own checkpoint follows

    def on_save(self, args, state, control, **_) -> None:
        newest = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        save_position(self.dataset, newest)
        processes.wait()
        if not state.is_world_process_zero:
            return
        for path in newest.rglob("*"):
            if path.is_file():
                with open(path, "rb+") as file:
                    os.fsync(file.fileno())
        write_json(newest / COMPLETE_MARK, {"step": state.global_step, **self.origin})
        for older in newest.parent.glob("checkpoint-*"):
            if older != newest:
                shutil.rmtree(older)


def last_complete(folder: Path) -> Path | None:
    """The newest complete checkpoint of a stage that was interrupted; None where there is none."""
    complete = [path.parent for path in folder.glob(f"checkpoint-*/{COMPLETE_MARK}")]
    return max(complete, key=lambda path: int(path.name.removeprefix("checkpoint-")), default=None)


def check_origin(then: Mapping, now: Mapping, *, where: Path) -> None:
    """What a stage is made from is what it was when it was interrupted.

    Args:
        then: as the mark has it: ``start``, the SHA-256 of the checkpoint it starts from, and ``data``, from
            :func:`.stage_data.identity_of`.
        now: the same of now.

    Raises:
        UsageError: it is not: the step that was reached would mean other samples.
    """
    todo = "restore what was there, or start the stage again with --stage and --force and without --resume"
    if then.get("start", now["start"]) != now["start"]:
        raise UsageError(f"the checkpoint that this stage starts from is not what it was in '{where}'", todo=todo)
    files_then, files_now = then.get("data", now["data"]), now["data"]
    if files_then != files_now:
        last = (files_then[-1], files_now[-1])
        file_then, file_now = next((pair for pair in zip(files_then, files_now) if pair[0] != pair[1]), last)
        raise UsageError(
            f"the data of this stage is not what it was in '{where}'",
            given=_said(file_now, len(files_now)),
            allowed=_said(file_then, len(files_then)),
            todo=todo,
        )


def _said(part: list, files: int) -> str:
    name, *counts = part
    more = f", one of {files} files" if files > 1 else ""
    return f"{name}: {' of '.join(f'{count:,}' for count in reversed(counts))} samples{more}"
