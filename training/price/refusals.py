"""Which checkpoints can be compared, asked before PyTorch is imported."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from laco_export.errors import UsageError
from laco_export.merge_path import Ratio

from ..refusals import check_checkpoint

DEFAULT_DEPTHS = ("1", "1/2", "1/4")
"""Tried where a checkpoint merges nothing yet."""


def check_subjects(
    folder: Path, reference: Path | None, at: Sequence[str], ratio: Ratio | Sequence[Ratio] | None
) -> None:
    """Refuse checkpoints and depths that :func:`.subjects.open_subjects` could not compare.

    Raises:
        CheckpointError: a folder is no checkpoint.
        UsageError: ``reference`` is missing, or has merges itself, or is not wanted; ``ratio`` is settled.
        ConfigError, DepthError: a ratio or a depth does not exist.
    """
    stated = check_checkpoint(folder)
    merges = stated.compression
    if merges.method is None:
        if reference is not None:
            raise UsageError(
                f"'{folder}' merges nothing: it is its own reference", todo="leave --reference out, or name both"
            )
        if at:
            stated.check_merges(at, ratio or 2)
        return
    if ratio is not None:
        raise UsageError(f"'{folder}' carries merges, whose ratio is settled", todo="leave --ratio out")
    if reference is None:
        raise UsageError(
            f"'{folder}' carries merges, and nothing says what its features were without them",
            given=f"depths {', '.join(merges.depths)}",
            todo="name the checkpoint that it was made from: --reference CKPT",
        )
    for depth in at if stated.is_resolved else ():
        stated.find(depth)
    original = check_checkpoint(reference).compression
    if original.method is not None:
        raise UsageError(
            f"the reference '{reference}' carries merges itself",
            given=f"depths {', '.join(original.depths)}",
            allowed="a checkpoint with compression off",
        )
