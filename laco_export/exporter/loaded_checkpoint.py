"""The checkpoint that is exported: audited, loaded, and set to the depth of its merge.

One half of it is in memory at a time: the vision tower until its graph is written, then the language model.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import weight_files
from ..errors import CheckpointError
from ..field_types import FieldError
from ..generation_fields import check_generation_fields
from ..quiet import quiet
from ..verified_files import FileState
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
        weight_states: of the weight files before they were audited.
    """

    checkpoint: Checkpoint
    depth: str | None
    notes: tuple[str, ...]
    weight_states: Mapping[Path, FileState]

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

    def at_depth(self, depth: str | None) -> LoadedCheckpoint:
        """The same model with the merges of ``depth`` chosen, until another depth is; None where it merges nothing."""
        return self if depth is None else replace(self, checkpoint=self.checkpoint.at_depth(depth), depth=depth)

    def choose_depth(self) -> None:
        """Choose this depth once more, where another view of the same model has chosen its own."""
        if self.depth is not None:
            self.model.set_depth(self.depth)

    def take_tower(self) -> None:
        """Read the vision tower and the projector once more.

        Raises:
            CheckpointError: the weight files are others than those that were audited.
        """
        from ..models.tower_weights import take_tower

        take_tower(self.model, self._audited_weights(), mapped=True)

    def let_go_of_tower(self) -> None:
        """Free the vision tower's and the projector's weights."""
        from ..models.tower_weights import let_go_of_tower

        let_go_of_tower(self.model)

    def take_language_model(self) -> None:
        """Read the language model.

        Raises:
            CheckpointError: the weight files are others than those that were audited.
        """
        from ..models.checkpoint import take_language_model

        self._audited_weights()
        with quiet():
            take_language_model(self.checkpoint)
        self._audited_weights()

    def _audited_weights(self) -> list[Path]:
        folder = self.checkpoint.path
        states = _states_of(folder)
        if states != self.weight_states:
            paths = states.keys() | self.weight_states.keys()
            changed = sorted(path.name for path in paths if states.get(path) != self.weight_states.get(path))
            raise CheckpointError(
                f"the weights of '{folder}' changed while they were exported",
                given=", ".join(changed),
                todo="export again when nothing writes to the checkpoint any more",
            )
        return list(states)


def _states_of(folder: Path) -> dict[Path, FileState]:
    """Of each weight file, in order."""
    states = {}
    for path in weight_files.find(folder):
        with open(path, "rb") as file:
            states[path] = FileState.of(file)
    return states


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

        states = _states_of(folder)
        loaded = checkpoint.load(folder, without_language_model=True, mapped=True)
    try:
        check_generation_fields(loaded.model.generation_config.to_diff_dict())
    except FieldError as error:
        failed = f"a bundle cannot carry what '{folder}' says of generating answers"
        raise error.as_error(
            CheckpointError, failed, "take the field out of generation_config.json, or correct it"
        ) from None
    notes = []
    if loaded.model.config.untrained:
        parts = " and ".join(loaded.model.config.untrained)
        notes.append(f"untrained: the checkpoint's {parts} have random weights; speed counts, answers do not")
    if not loaded.checked:
        notes.append("the checkpoint has no checksums.json: its weights could not be checked for damage")
    return LoadedCheckpoint(loaded, None, tuple(notes), states).at_depth(depth)


def bytes_of_bundle(
    model: LacoForConditionalGeneration, *, precision: str, llm: str | None, more_rows: int = 0
) -> float:
    """About what the bundle's weights take on the disk.

    Args:
        precision: of the vision graph.
        llm: the decoder's precision; None or False where it is left out.
        more_rows: of a head that is written beside the embedding it was tied to.
    """
    from .tower import VisionTower

    count = lambda module: sum(parameter.numel() for parameter in module.parameters())
    needed = count(VisionTower(model)) * (4 if precision == "fp32" else 2)
    if llm:
        weights = count(model.language_model) + more_rows * model.config.text_config.hidden_size
        needed += weights * decoder.bytes_per_weight(llm)
    return needed
