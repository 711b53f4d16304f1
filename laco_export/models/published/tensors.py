"""The tensors of a published folder in their places, as they are stored: one at a time, none of them twice."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ... import weight_files
from ...errors import CheckpointError
from ..encoders.loading import rename, split
from ..modeling import LacoForConditionalGeneration
from ..tensor_audit import TensorAudit
from .specification import PublishedModel

_TOWER = "vision_model.encoder."


def load_tensors(
    model: LacoForConditionalGeneration, folder: Path, published: PublishedModel, dtype: torch.dtype | None
) -> list[str]:
    """Give a model that has no memory yet the tensors of a folder.

    Args:
        model: its parameters on the meta device.
        dtype: cast to; None keeps what is stored.

    Returns:
        the stored names that were skipped.

    Raises:
        CheckpointError: a file is damaged; a tensor is missing, left over, of another shape, or holds inf or NaN.
    """
    audit, expected = TensorAudit(folder), dict(model.named_parameters())
    tied = set(model._tied_weights_keys) if model.config.text_config.tie_word_embeddings else set()
    loaded: dict[str, Tensor] = {}
    skipped = []
    for stored, named in _stored(folder, published):
        if not named or named[0][0] in tied:
            skipped.append(stored)
            continue
        for name, tensor in named:
            if name not in expected:
                audit.unexpected.append(stored)
                continue
            loaded[name] = tensor.to(dtype) if dtype else tensor
            if audit.fits(stored, tensor.shape, expected[name].shape):
                audit.check_finite(stored, loaded[name])
    audit.missing += expected.keys() - loaded.keys() - tied
    audit.close()
    model.load_state_dict(loaded, assign=True, strict=False)
    model.language_model.tie_weights()
    return skipped


def _stored(folder: Path, published: PublishedModel) -> Iterator[tuple[str, list[tuple[str, Tensor]]]]:
    """Each stored name with the tensors that are made of it, by the model's names; none where it is skipped."""
    for path in weight_files.find(folder):
        try:
            with safe_open(path, framework="pt") as file:
                for stored in file.keys():  # noqa: SIM118
                    yield stored, _placed(stored, file, published)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"'{path}' is damaged or cut off: {error}", todo="copy the folder again") from None


def _placed(stored: str, file: safe_open, published: PublishedModel) -> list[tuple[str, Tensor]]:
    key_map, spec = published.key_map, published.spec
    if any(re.search(pattern, stored) for pattern in key_map.skipped):
        return []
    own = key_map.tower_name(stored)
    if own is None:
        return [(key_map.renamed(stored), file.get_tensor(stored))]
    name = spec.stored_name(rename(own, key_map.encoder))
    if any(re.search(pattern, name) for pattern in spec.skipped):
        return []
    return [(_TOWER + part, tensor) for part, tensor in split(name, file.get_tensor(stored), key_map.encoder)]
