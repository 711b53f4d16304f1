"""A stage's data, its order and its place in it: by index from local files, or as a stream of parquet."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from laco_export.atomic import write_json
from laco_export.weight_files import read_json

from . import processes
from .recipe import StageRecipe

if TYPE_CHECKING:
    from laco_export.models import LacoProcessor


def data_path(stage: StageRecipe, data_folder: Path) -> Path | str:
    """Where the stage's data is; a URL (``hf://datasets/…/*.parquet``) stands for itself."""
    return stage.data if "://" in stage.data else data_folder / stage.data


def open_stage_data(stage: StageRecipe, processor: LacoProcessor, data_folder: Path, *, seed: int):
    """The stage's samples: a :class:`.data.ConversationDataset`, where it streams a :class:`.data.ConversationStream`.

    Args:
        processor: its ``tiling`` is what single pictures are tiled by, where the stage tiles.
        seed: of a mixture's draws and of a stream's order.
    """
    from .data import ConversationStream, open_dataset

    path = data_path(stage, data_folder)
    options = {
        "images": data_folder / stage.images if stage.images else None,
        "plain": stage.plain,
        "max_length": stage.max_length,
        "tiled": stage.tiling is not None,
        "max_frames": stage.max_frames,
        "like": stage.like,
        "seed": seed,
    }
    if not stage.streaming:
        return open_dataset(path, processor, **options)
    state = processes.join()
    return ConversationStream(
        path,
        processor,
        rank=state.process_index,
        world_size=state.num_processes,
        shuffle_buffer=stage.shuffle_buffer,
        **options,
    )


def identity_of(dataset, data_folder: Path) -> list:
    """What a resumed stage must find again, as plain values: each data file's name, its samples, and those in use."""
    if not hasattr(dataset, "parts"):
        return [[dataset.path, len(dataset)]]
    root = f"{data_folder}{os.sep}"  # a run's folder may be moved
    return [[part.name.removeprefix(root), len(part.source), len(part.rows)] for part in dataset.parts]


def sampler_of(stage: StageRecipe, dataset, *, seed: int):
    """The order of the samples, the same for any number of processes; None where a stream has its own."""
    from .data import GroupedSampler

    if stage.streaming:
        return None
    return GroupedSampler(dataset, global_batch_size=stage.global_batch_size, seed=seed, group_by=stage.group_by)


def save_position(dataset, folder: Path) -> None:
    """Keep where this process's stream stands beside a checkpoint; an indexed dataset's place follows from the step."""
    if hasattr(dataset, "state_dict"):
        write_json(_position_file(folder), dataset.state_dict())


def load_position(dataset, folder: Path) -> None:
    """Go on where :func:`save_position` was called; before the first batch is read.

    Raises:
        DataError: a stream was saved by another number of processes.
    """
    if hasattr(dataset, "load_state_dict"):
        own = _position_file(folder)
        # More processes than before: the first one's file says how many there were.
        dataset.load_state_dict(read_json(own if own.exists() else own.with_name("stream-0.json")))


def _position_file(folder: Path) -> Path:
    return folder / f"stream-{processes.join().process_index}.json"
