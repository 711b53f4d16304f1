"""The checkpoint that is exported: audited, loaded, and set to the depth of its merge.

One half of it is in memory at a time: the vision tower until its graph is written, then the language model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from .. import weight_files
from ..errors import CheckpointError
from ..field_types import FieldError
from ..generation_fields import check_generation_fields
from ..quiet import quiet
from . import decoder

if TYPE_CHECKING:
    from ..models import LacoForConditionalGeneration
    from ..models.checkpoint import Checkpoint


@dataclass(frozen=True)
class LoadedCheckpoint:
    """A checkpoint in memory.

    Attributes:
        depth: of the merge, as the checkpoint carries it; None where nothing is merged.
        notes: what whoever reads the bundle should know of it: random weights, weights without a checksum.
    """

    checkpoint: Checkpoint
    depth: str | None
    notes: tuple[str, ...]

    @property
    def model(self) -> LacoForConditionalGeneration:
        """In evaluation mode, in FP32; the half that is not in memory is on the meta device."""
        return self.checkpoint.model

    @property
    def eos_token_ids(self) -> list[int]:
        """The tokens that end an answer: the checkpoint's own, and the one that its chat format names."""
        processor = self.checkpoint.processor
        tokenizer, answer_end = processor.tokenizer, processor.chat_format.answer_end
        own = self.model.generation_config.eos_token_id
        ids = list(own) if isinstance(own, (list, tuple)) else [own]
        ids += [tokenizer.convert_tokens_to_ids(answer_end), tokenizer.eos_token_id]
        return list(dict.fromkeys(i for i in ids if i is not None and i != tokenizer.unk_token_id))

    def take_tower(self) -> None:
        """Read the vision tower and the projector once more."""
        from ..models.tower_weights import take_tower

        take_tower(self.model, weight_files.find(self.checkpoint.path), mapped=True)

    def let_go_of_tower(self) -> None:
        """Free the vision tower's and the projector's weights."""
        from ..models.tower_weights import let_go_of_tower

        let_go_of_tower(self.model)

    def take_language_model(self) -> None:
        """Read the language model."""
        from ..models.checkpoint import take_language_model

        with quiet():
            take_language_model(self.checkpoint)


def load_checkpoint(folder: Path, depth: str | None) -> LoadedCheckpoint:
    """Audit a checkpoint's folder and load it without its language model.

    Args:
        depth: one that the checkpoint carries; None where it merges nothing.

    Raises:
        CheckpointError: see :func:`laco_export.models.checkpoint.load`; or its generation_config.json has a field that
            :mod:`laco_export.generation_fields` does not list.
    """
    with quiet():
        from ..models import checkpoint

        loaded = checkpoint.load(folder, without_language_model=True, mapped=True)
    try:
        check_generation_fields(loaded.model.generation_config.to_diff_dict())
    except FieldError as error:
        failed = f"a bundle cannot carry what '{folder}' says of generating answers"
        raise error.as_error(
            CheckpointError, failed, "take the field out of generation_config.json, or correct it"
        ) from None
    if depth is not None:
        loaded = loaded.at_depth(depth)
    notes = []
    if loaded.model.config.untrained:
        parts = " and ".join(loaded.model.config.untrained)
        notes.append(f"untrained: the checkpoint's {parts} have random weights; speed counts, answers do not")
    if not loaded.checked:
        notes.append("the checkpoint has no checksums.json: its weights could not be checked for damage")
    return LoadedCheckpoint(loaded, depth, tuple(notes))


def bytes_of_bundle(model: LacoForConditionalGeneration, *, precision: str, llm: str | None) -> float:
    """About what the bundle's weights take on the disk.

    Args:
        precision: of the vision graph.
        llm: the decoder's precision; None or False where it is left out.
    """
    from .tower import VisionTower

    count = lambda module: sum(parameter.numel() for parameter in module.parameters())
    needed = count(VisionTower(model)) * (4 if precision == "fp32" else 2)
    if llm:
        needed += count(model.language_model) * decoder.bytes_per_weight(llm)
    return needed
