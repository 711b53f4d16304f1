"""The models that are compared: one with compression off, and the same with a merge at each depth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from laco_export.errors import ConfigError
from laco_export.merge_path import DepthPath, MergePath, Ratio
from laco_export.models import LacoForConditionalGeneration, LacoProcessor, checkpoint
from laco_export.models.merging import merge_inside

from ..distillation.matching import check_pair
from .refusals import DEFAULT_DEPTHS, check_subjects


@dataclass(frozen=True)
class Subjects:
    """
    Attributes:
        reference: the model with compression off.
        merged: a model with a merge at each of :attr:`depths`.
        reference_processor: of the reference.
        depths: as asked for, each with the path of its merges.
        is_trained: whether the merges are a checkpoint's own, not fresh averages.
        sha256: of the checkpoints that they come from, by their role.
    """

    reference: LacoForConditionalGeneration
    reference_processor: LacoProcessor
    merged: LacoForConditionalGeneration
    depths: dict[str, MergePath]
    is_trained: bool
    sha256: dict[str, str]

    def at_depth(self, at: str) -> LacoProcessor:
        """Choose a depth of ``merged``; its processor, which differs from the reference's in a picture's tokens."""
        self.merged.set_depth(at)
        return self.reference_processor.fitted_to(self.merged)

    def to_accelerator(self) -> None:
        """Move both models to the machine's accelerator; what they share stays shared."""
        device = torch.accelerator.current_accelerator()
        self.reference.to(device)
        self.merged.to(device)


def open_subjects(
    folder: Path, reference: Path | None, at: Sequence[str], ratio: Ratio | Sequence[Ratio] | None = None
) -> Subjects:
    """Load what is compared.

    Args:
        folder: a checkpoint with compression off, in which averaging merges are put, or one that carries merges.
        reference: for the latter, the checkpoint with compression off that it was made from.
        at: depths; empty takes :data:`~.refusals.DEFAULT_DEPTHS`, or all that the checkpoint carries.
        ratio: of the merges that are put in; None takes 2.

    Raises:
        CheckpointError: a folder is no sound checkpoint.
        UsageError: ``reference`` is missing, or has merges itself, or is not wanted; a depth does not exist.
        ConfigError: the two do not see pictures alike.
    """
    check_subjects(folder, reference, at, ratio)
    loaded = checkpoint.load(folder)
    merges = loaded.model.config.compression_config
    if merges.method is None:
        merged = merge_inside(loaded.model, at or _different(DEFAULT_DEPTHS, loaded.model), ratio=ratio or 2)
        put_in = merged.config.compression_config
        depths = dict(zip(put_in.depths, put_in.paths, strict=True))
        return Subjects(loaded.model, loaded.processor, merged, depths, False, {"checkpoint": loaded.sha256})
    depths = dict(merges.find(depth) for depth in at or merges.depths)
    original = checkpoint.load(reference)
    _check_alike(loaded, original)
    digests = {"checkpoint": loaded.sha256, "reference": original.sha256}
    return Subjects(original.model, original.processor, loaded.model, depths, True, digests)


def _different(at: Sequence[str], model: LacoForConditionalGeneration) -> list[str]:
    """Without depths that stand behind the same block in a small encoder."""
    by_block = {DepthPath.parse(depth).resolve(model.config.num_encoder_blocks): depth for depth in reversed(at)}
    return [depth for depth in at if depth in by_block.values()]


def _check_alike(loaded: checkpoint.Checkpoint, original: checkpoint.Checkpoint) -> None:
    """Raise :class:`ConfigError` where features or answers of the two could not be compared."""
    check_pair(original.model, loaded.model)
    differences = {
        "the preprocessing": (c.processor.image_processor.preprocessing for c in (loaded, original)),
        "the tiling": (c.model.config.tiling for c in (loaded, original)),
        "the vocabulary": (c.processor.tokenizer.get_vocab() for c in (loaded, original)),
    }
    for name, (ours, theirs) in differences.items():
        if ours != theirs:
            shown = "different" if name == "the vocabulary" else f"{ours} beside {theirs}"
            raise ConfigError(
                f"the checkpoint was not made from the reference: {name} differs",
                given=shown,
                todo="name the checkpoint with compression off that the merges were put into",
            )
