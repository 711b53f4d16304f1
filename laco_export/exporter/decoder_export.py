"""The language model's steps: written, compared with PyTorch, and PyTorch asked what the bundle will be asked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..bundle import Decoder
from ..console import Steps
from ..golden_answers import write_golden_answers
from ..quiet import quiet
from . import decoder
from .depth_names import DepthNames
from .freed_memory import give_back_memory
from .loaded_checkpoint import LoadedCheckpoint
from .options import ExportOptions
from .pytorch_answers import AskedModel, ask_pytorch
from .remarks import remarks_on_blindness

if TYPE_CHECKING:
    from .decoder.reduced_vocabulary import ReducedVocabulary


@dataclass(frozen=True)
class DecoderExport:
    """A decoder that was written and compared.

    Attributes:
        entry: the manifest's record of it.
        accuracy: what :func:`~.decoder.verify_decoder` gives.
        token_ids: int64 ``[K]``: the tokens that its head has rows for; None for all.
    """

    entry: Decoder
    accuracy: dict
    token_ids: np.ndarray | None = None


@dataclass(frozen=True)
class AskedDepth:
    """What PyTorch was asked about the golden pictures at one depth.

    Attributes:
        file: of its answers; None where no question fits the context.
        notes: what could not be asked, and what the answers show.
    """

    file: str | None
    notes: tuple[str, ...]


def vocabulary_for(loaded: LoadedCheckpoint, options: ExportOptions) -> ReducedVocabulary | None:
    """The tokens that the language model's head is to have rows for; None for all.

    Raises:
        UsageError: what ``--vocabulary`` names cannot be used with this tokenizer.
    """
    request = options.vocabulary_request()
    if request is None:
        return None
    from tokenizers import Tokenizer

    from .decoder.reduced_vocabulary import NeededTokens, choose_vocabulary

    processor, vocab_size = loaded.checkpoint.processor, loaded.model.config.text_config.vocab_size
    tokenizer = Tokenizer.from_str(processor.tokenizer.backend_tokenizer.to_str())
    tokenizer.no_truncation()
    needed = NeededTokens(tokenizer, processor.chat_format, loaded.eos_token_ids, vocab_size)
    return choose_vocabulary(request, tokenizer, needed, vocab_size)


def write_and_verify(
    folder: Path,
    options: ExportOptions,
    loaded: LoadedCheckpoint,
    features: Sequence[np.ndarray],
    steps: Steps,
    vocabulary: ReducedVocabulary | None = None,
) -> DecoderExport:
    """Write the checkpoint's language model into the bundle's ``folder`` and compare it with PyTorch.

    Args:
        loaded: with its language model in memory.
        features: the golden pictures' as PyTorch gives them, float32 ``[1, tokens, D]`` each.
        vocabulary: the tokens that the head has rows for; None for all.

    Raises:
        UsageError: a text of ``--llm-texts`` cannot be used.
        ExportError: the language model is not supported, does not compute what PyTorch computes, or rounding costs more
            than ``--max-kl``.
    """
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
            precision=options.llm,
            generation_config=model.generation_config,
            prompts=prompts,
            vocabulary=vocabulary,
            advance=advance,
        )
    with steps.step("compare the language model with PyTorch"), quiet():
        token_ids = None if vocabulary is None else vocabulary.token_ids
        accuracy = decoder.verify_decoder(
            model.language_model, folder, entry, prompts, options.max_kl, token_ids=token_ids
        )
        give_back_memory()
    return DecoderExport(entry, accuracy, token_ids)


def ask_at_depth(
    folder: Path, written: DecoderExport, asked: AskedModel, names: DepthNames, steps: Steps
) -> AskedDepth:
    """Write PyTorch's answers to the golden questions at one depth into the bundle's ``folder``.

    Args:
        written: the decoder that was written there.
        asked: the checkpoint, its language model in memory, and all that its golden questions show encoded.
    """
    with steps.step(names.step("ask PyTorch the golden questions")), quiet():
        asked.loaded.choose_depth()
        answers = ask_pytorch(asked, written.entry, folder, written.token_ids)
        notes = (*answers.notes, *remarks_on_blindness(asked, answers))
        if answers.golden is None:
            return AskedDepth(None, notes)
        write_golden_answers(folder, answers.golden, name=names.golden_answers)
    return AskedDepth(names.golden_answers, notes)
