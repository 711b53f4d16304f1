"""The language model's steps: written, compared with PyTorch, and PyTorch asked what the bundle will be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..bundle import Decoder
from ..console import Steps
from ..golden_answers import GOLDEN_ANSWERS_NAME, write_golden_answers
from ..quiet import quiet
from . import decoder
from .freed_memory import give_back_memory
from .options import ExportOptions
from .pytorch_answers import AskedModel, ask_pytorch
from .remarks import remarks_on_blindness


@dataclass(frozen=True)
class DecoderExport:
    """A decoder that was written and compared.

    Attributes:
        entry: the manifest's record of it.
        accuracy: what :func:`~.decoder.verify_decoder` gives.
        golden_answers: the file of PyTorch's answers; None where no question fits the context.
        notes: what could not be asked, and what PyTorch's answers show.
    """

    entry: Decoder
    accuracy: dict
    golden_answers: str | None
    notes: tuple[str, ...]


def write_and_verify(
    folder: Path,
    options: ExportOptions,
    asked: AskedModel,
    features: Sequence[np.ndarray],
    steps: Steps,
) -> DecoderExport:
    """Write the checkpoint's language model into the bundle's ``folder``, compare it with PyTorch, and write PyTorch's
    answers to the golden questions.

    Args:
        asked: the checkpoint, its language model in memory, and all that its golden questions show encoded.
        features: the golden pictures' as PyTorch gives them, float32 ``[1, tokens, D]`` each.

    Raises:
        UsageError: a text of ``--llm-texts`` cannot be used.
        ExportError: the language model is not supported, does not compute what PyTorch computes, or rounding costs more
            than ``--max-kl``.
    """
    loaded, precision = asked.loaded, options.llm
    model = loaded.model
    width = model.config.text_config.hidden_size
    prompts = decoder.prompts_of(
        loaded.checkpoint.processor,
        [rows.reshape(-1, width) for rows in features],
        model.config.image_token_id,
        options.llm_texts,
        chat_format=loaded.checkpoint.processor.chat_format,
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
        give_back_memory()
    with steps.step("ask PyTorch the golden questions"), quiet():
        answers = ask_pytorch(asked, entry, folder)
        notes = (*answers.notes, *remarks_on_blindness(asked, answers))
        if answers.golden is not None:
            write_golden_answers(folder, answers.golden)
    return DecoderExport(entry, accuracy, GOLDEN_ANSWERS_NAME if answers.golden else None, notes)
