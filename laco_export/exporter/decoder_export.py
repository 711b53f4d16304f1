"""The language model's two steps: written, then compared with PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..bundle import Decoder
from ..console import Steps
from ..quiet import quiet
from . import decoder
from .loaded_checkpoint import LoadedCheckpoint
from .options import ExportOptions


@dataclass(frozen=True)
class DecoderExport:
    """A decoder that was written and compared.

    Attributes:
        entry: the manifest's record of it.
        accuracy: what :func:`~.decoder.verify_decoder` gives.
    """

    entry: Decoder
    accuracy: dict


def write_and_verify(
    loaded: LoadedCheckpoint, folder: Path, options: ExportOptions, features: Sequence[np.ndarray], steps: Steps
) -> DecoderExport:
    """Write the checkpoint's language model into the bundle's ``folder`` and compare it with PyTorch.

    Args:
        features: the golden pictures' as PyTorch gives them, float32 ``[1, tokens, D]`` each.

    Raises:
        UsageError: a text of ``--llm-texts`` cannot be used.
        ExportError: the language model is not supported, does not compute what PyTorch computes, or rounding costs more
            than ``--max-kl``.
    """
    model, precision = loaded.model, options.llm
    width = model.config.text_config.hidden_size
    prompts = decoder.prompts_of(
        loaded.checkpoint.processor,
        [rows.reshape(-1, width) for rows in features],
        model.config.image_token_id,
        options.llm_texts,
        context_length=model.config.text_config.max_position_embeddings,
    )
    with steps.step("export the language model") as advance, quiet():
        entry = decoder.export_decoder(
            model.language_model,
            image_token_id=model.config.image_token_id,
            eos_token_ids=loaded.eos_token_ids,
            output_folder=folder,
            precision=precision,
            generation_config=model.generation_config,
            prompts=prompts,
            advance=advance,
        )
    with steps.step("compare the language model with PyTorch"), quiet():
        accuracy = decoder.verify_decoder(model.language_model, folder, entry, prompts, options.max_kl)
        return DecoderExport(entry, accuracy)
