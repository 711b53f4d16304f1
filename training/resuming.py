"""Checkpoints inside a stage, to resume from: HF's own, and a mark on those that are complete.

HF's Trainer writes `checkpoint-<step>` file by file (weights, optimiser, schedule, one random state per process,
`trainer_state.json`). A run killed in between leaves a part of one. Here the mark `complete.json` is written when all
processes are done and all files are on the disk, and only then the checkpoint before it is removed.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from transformers import TrainerCallback

from laco_export.atomic import write_json

from . import processes
from .stage_data import save_position

MARK = "complete.json"


class CheckpointKeeper(TrainerCallback):
    """Marks each checkpoint that is complete, and keeps the newest of them alone.

    Args:
        dataset: the stage's data, whose position is kept where it is a stream.
    """

    def __init__(self, dataset):
        self.dataset = dataset

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
        write_json(newest / MARK, {"step": state.global_step})
        for older in newest.parent.glob("checkpoint-*"):
            if older != newest:
                shutil.rmtree(older)


def last_complete(folder: Path) -> Path | None:
    """The newest complete checkpoint of a stage that was interrupted; None where there is none."""
    complete = [path.parent for path in folder.glob(f"checkpoint-*/{MARK}")]
    return max(complete, key=lambda path: int(path.name.removeprefix("checkpoint-")), default=None)
