"""A run's first checkpoint from one that stands: with the recipe's merges put in, or as it is where it has its own."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from laco_export.atomic import new_directory
from laco_export.errors import ConfigError

from .recipe import CompressionRecipe

if TYPE_CHECKING:
    from laco_export.compression import CompressionConfig


def start_from_checkpoint(source: Path, compression: CompressionRecipe, output: Path) -> None:
    """Write the checkpoint that a run's first stage is trained from.

    Args:
        source: a checkpoint with compression off, or with the merges that ``compression`` names.

    Raises:
        CheckpointError: it is no checkpoint, or damaged.
        ConfigError: it has other merges.
    """
    from laco_export.models import checkpoint

    from .distillation.student import open_pair, write_student

    config = checkpoint.read_config(source).compression_config
    check_merges(config, compression)
    if config.method is None and compression.method is not None:
        _, student = open_pair(source, compression)
        write_student(student, output, files={}, force=False)
        return
    with new_directory(output) as copied:
        shutil.copytree(source, copied, dirs_exist_ok=True)


def check_merges(config: CompressionConfig, compression: CompressionRecipe) -> None:
    """A checkpoint has no merges yet, or those of the recipe.

    Raises:
        ConfigError: it has others.
    """
    carried = config.method, config.depths, config.ratio
    if config.method is None or carried == (compression.method, compression.at, compression.ratio):
        return
    raise ConfigError(
        "model.checkpoint has other merges than the recipe's compression",
        given=f"compression.method {compression.method}, at {', '.join(compression.at)}, ratio {compression.ratio}",
        allowed=f"method {config.method}, at {', '.join(config.depths)}, ratio {config.ratio}",
        todo="set compression as the checkpoint has it",
    )
