"""A language model's tokenizer, made ready for pictures, and the rows that embedding and head need for it.

Tokenizers come in many states: without image tokens or a padding token, with special tokens that are ordinary text,
with another end token than the model's, with fewer tokens than the model has rows. What can be understood is mended,
and said in a sentence; what cannot is refused here, before a weight is trained. Here conversations are ChatML
(:mod:`laco_export.conversation`); a tokenizer without its two tokens keeps its own format (:mod:`.own_chat_format`).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from ..chat_format import CHATML, IM_END, IM_START, ChatFormat
from ..conversation import CHAT_TEMPLATE, DEFAULT_SYSTEM, IMAGE_TOKEN, SPECIAL_TOKEN, VIDEO_TOKEN
from ..errors import CheckpointError
from .transformers_versions import add_extra_special_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

_TURN_TOKENS = (IM_START, IM_END)
_VISUAL_TOKENS = (IMAGE_TOKEN, VIDEO_TOKEN)
PADDING_TOKENS = ("<|endoftext|>", "<pad>", "[PAD]", "<unk>", "<|finetune_right_pad_id|>")
"""What families pad with, in the order of preference; the last is Llama 3.1's."""
_FREE_ROWS = 1024, 0.05
"""Rows, or share of the rows, that a vocabulary may be padded by, whichever is more. Published models stay well below:
271 rows of 151,936 (Qwen2.5), 234 of 32,256 (DeepSeek Coder, llama.cpp #3633), 2,385 of 102,400 (DeepSeekMoE 16B, its
repository's #14)."""


@dataclass(frozen=True)
class ReadyVocabulary:
    """A tokenizer that is ready for pictures, and what the model must become for it.

    Attributes:
        tokenizer: with the chat format's tokens and the image token, all special, an end and a padding token.
        rows: of embedding and head.
        trained_rows: the rows before the first new one; their mean is where a new one starts.
        new_ids: tokens whose rows nothing has trained.
        end_ids: tokens that end an answer; the chat format's first.
        changes: what was mended or will be other than the model's family has it, a sentence each.
        chat_format: in which the model is trained and asked.
    """

    tokenizer: PreTrainedTokenizerFast
    rows: int
    trained_rows: int
    new_ids: tuple[int, ...]
    end_ids: tuple[int, ...]
    changes: tuple[str, ...]
    chat_format: ChatFormat = CHATML


def prepare_vocabulary(
    tokenizer: PreTrainedTokenizerFast, model_rows: int, folder: Path, *, end_ids: Sequence[int], pad_id: int | None
) -> ReadyVocabulary:
    """Make a ``tokenizer`` with ChatML's tokens ready, in place.

    Args:
        model_rows: ``vocab_size`` of the model's configuration.
        folder: named in errors.
        end_ids, pad_id: what the model's configurations say of its end tokens and its padding token.

    Raises:
        CheckpointError: the tokenizer is another model's, or does not give a special token its own id.
    """
    check_rows(tokenizer, model_rows, folder, awaited=(*_VISUAL_TOKENS, tokenizer.pad_token))
    changes = [*restore_special_tokens(tokenizer, {*_TURN_TOKENS, *_VISUAL_TOKENS}), *_prompt_changes(tokenizer)]
    tokens_before = set(tokenizer.get_vocab())
    if missing := [token for token in _VISUAL_TOKENS if token not in tokens_before]:
        make_special(tokenizer, missing)
    end_ids = _set_end(tokenizer, end_ids, changes)
    _set_padding(tokenizer, pad_id, changes)
    check_whole_tokens(tokenizer, folder, (*_TURN_TOKENS, *_VISUAL_TOKENS))
    vocabulary = tokenizer.get_vocab()
    new = {token: index for token, index in vocabulary.items() if token not in tokens_before or index >= model_rows}
    rows = max(model_rows, *(index + 1 for index in vocabulary.values()))
    if new:
        named = ", ".join(f"{token} ({index})" for token, index in sorted(new.items(), key=lambda item: item[1]))
        free = sum(index < model_rows for index in new.values())
        changes.insert(
            0, f"new tokens: {named}; {free} take free rows of the model, {rows - model_rows} rows are added"
        )
    trained_rows = 1 + max(index for token, index in vocabulary.items() if token not in new)
    return ReadyVocabulary(tokenizer, rows, trained_rows, tuple(sorted(new.values())), end_ids, tuple(changes))


def grow_vocabulary(model: PreTrainedModel, vocabulary: ReadyVocabulary) -> None:
    """Give ``model`` a row for each token of its embedding and head, tied or not, and the tokenizer's special ids.

    A new row is the mean of the trained rows, so that its token is as likely as the average one; a head's bias
    likewise.
    """
    if vocabulary.rows > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(vocabulary.rows, mean_resizing=False)
    new_ids = list(vocabulary.new_ids)
    if new_ids:
        embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
        tensors = [embedding.weight, head.weight, getattr(head, "bias", None)]
        with torch.no_grad():
            for tensor in {id(tensor): tensor for tensor in tensors if tensor is not None}.values():  # tied: once
                tensor[new_ids] = tensor[: vocabulary.trained_rows].mean(0, dtype=torch.float32).to(tensor.dtype)
    ends = vocabulary.end_ids
    for configuration in (model.config, model.generation_config):
        configuration.pad_token_id = vocabulary.tokenizer.pad_token_id
        configuration.eos_token_id = ends[0] if len(ends) == 1 else list(ends)


def check_rows(
    tokenizer: PreTrainedTokenizerFast, model_rows: int, folder: Path, *, awaited: Collection[str | None] = ()
) -> None:
    """Refuse a tokenizer that is another model's by its size.

    Args:
        model_rows: ``vocab_size`` of the model's configuration.
        awaited: tokens that are often added by hand, and the model left as it was.

    Raises:
        CheckpointError: it has tokens beyond the model's rows, or far fewer tokens than the model has rows, or no fast
            form.
    """
    if not tokenizer.is_fast:
        raise CheckpointError(
            f"the tokenizer of '{folder}' has no fast form, which is all that runs without transformers",
            given=type(tokenizer).__name__,
            allowed="a tokenizer.json, or what transformers converts to it",
        )
    vocabulary = tokenizer.get_vocab()
    beyond = sorted(
        index for token, index in vocabulary.items() if index >= model_rows + (len(awaited) if token in awaited else 0)
    )
    todo = "the tokenizer may be another model's: get both from one place"
    if beyond:
        named = ", ".join(f"{tokenizer.convert_ids_to_tokens(index)!r} ({index})" for index in beyond[:3])
        raise CheckpointError(
            f"the tokenizer of '{folder}' has tokens for which the model has no row",
            given=f"{len(beyond)} of them: {named}",
            allowed=f"ids below vocab_size {model_rows} of config.json",
            todo=todo + "; tokens of your own need model.resize_token_embeddings(len(tokenizer))",
        )
    free = model_rows - len(set(vocabulary.values()))
    if free > max(_FREE_ROWS[0], _FREE_ROWS[1] * model_rows):
        raise CheckpointError(
            f"the tokenizer of '{folder}' has far fewer tokens than the model has rows",
            given=f"{len(vocabulary)} tokens, vocab_size {model_rows} in config.json",
            allowed=f"a vocabulary that is padded by at most {_FREE_ROWS[0]} rows or {_FREE_ROWS[1]:.0%}",
            todo=todo,
        )


def stated_end_ids(folder: Path, *stated: object) -> list[int]:
    """The end tokens of a folder.

    Args:
        stated: each ``eos_token_id`` of its configurations: an id, a list of ids, or None.

    Raises:
        CheckpointError: one is neither.
    """
    ids = [index for ids in stated if ids is not None for index in (ids if isinstance(ids, list) else [ids])]
    for index in ids:
        if not isinstance(index, int):
            raise CheckpointError(
                f"an end token of '{folder}' is no token's id",
                given=f"eos_token_id {index!r}",
                allowed="whole numbers",
                todo="get config.json and generation_config.json again from where the model was published",
            )
    return ids


def lacks_chatml(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """ChatML's tokens that ``tokenizer`` has not: its model was not taught ChatML's turns."""
    vocabulary = tokenizer.get_vocab()
    return [token for token in _TURN_TOKENS if token not in vocabulary]


def restore_special_tokens(tokenizer: PreTrainedTokenizerFast, needed: Collection[str]) -> list[str]:
    """Make special what looks it and is in the vocabulary as ordinary text, which GGUF files' tokenizers have.

    Args:
        needed: tokens that must be special where the vocabulary has them, also if they were added as ordinary ones.

    Returns:
        A sentence, where something was done.
    """
    vocabulary, added = tokenizer.get_vocab(), tokenizer.added_tokens_decoder
    ordinary = [
        token
        for token, index in sorted(vocabulary.items(), key=lambda item: item[1])
        if SPECIAL_TOKEN.fullmatch(token)
        and (index not in added or (token in needed and not added[index].special))  # some are not special on purpose
    ]
    if not ordinary:
        return []
    make_special(tokenizer, ordinary)
    return [f"special again, at their own ids: {', '.join(ordinary)}"]


def make_special(tokenizer: PreTrainedTokenizerFast, tokens: Sequence[str]) -> None:
    """Add ``tokens``, or make special those that are there already, at their own ids."""
    from tokenizers import AddedToken

    special = [AddedToken(token, special=True, normalized=False) for token in tokens]
    add_extra_special_tokens(tokenizer, special)


def _prompt_changes(tokenizer: PreTrainedTokenizerFast) -> list[str]:
    """Give the tokenizer LaCo's chat template, and say where its family's is another."""
    template, tokenizer.chat_template = tokenizer.chat_template, CHAT_TEMPLATE
    if template in (None, CHAT_TEMPLATE):
        return []
    try:
        prompt = tokenizer.apply_chat_template(
            [{"role": "user", "content": "?"}], chat_template=template, tokenize=False, add_generation_prompt=True
        )
    except Exception:  # jinja2's, and whatever the template itself raises
        return ["its own chat template cannot be used: conversations are ChatML"]
    if f"{CHATML.user.before}?{CHATML.user.after}" not in prompt:
        return ["its own chat template is not ChatML, in which it is trained and asked here"]
    changes = []
    begin = prompt.partition(IM_START)[0]
    if begin:
        changes.append(f"its own chat template begins with {begin!r}, which is left out")
    words = re.escape(CHATML.system.before) + "(.*?)" + re.escape(IM_END)
    system = re.match(words, prompt[len(begin) :], re.DOTALL)
    own = system[1].strip() if system else None
    if own != DEFAULT_SYSTEM:
        changes.append(
            f"a conversation begins with the system line {DEFAULT_SYSTEM!r}; its family's "
            + (f"is {own!r}" if own else "has none by default")
        )
    return changes


def _set_end(tokenizer: PreTrainedTokenizerFast, end_ids: Sequence[int], changes: list[str]) -> tuple[int, ...]:
    """Make ``<|im_end|>`` the end token, and keep other special tokens as ends that cannot stand inside an answer."""
    ends = [tokenizer.convert_tokens_to_ids(IM_END), *end_ids, tokenizer.eos_token_id]
    if tokenizer.eos_token != IM_END:
        changes.append(f"the end token is {IM_END}; its tokenizer names {tokenizer.eos_token or 'none'}")
        tokenizer.eos_token = IM_END
    special = {index for index, token in tokenizer.added_tokens_decoder.items() if token.special}
    unfit = {tokenizer.convert_tokens_to_ids(token) for token in (IM_START, *_VISUAL_TOKENS)}
    return tuple(dict.fromkeys(index for index in ends if index in special - unfit))


def _set_padding(tokenizer: PreTrainedTokenizerFast, pad_id: int | None, changes: list[str]) -> None:
    """Padding rows are masked, so that any token will do that is not a picture's."""
    if tokenizer.pad_token is not None and tokenizer.pad_token not in _VISUAL_TOKENS:
        return
    added = tokenizer.added_tokens_decoder
    special = {str(token) for token in added.values() if token.special} - set(_VISUAL_TOKENS)
    stated = str(added[pad_id]) if pad_id in added else None
    tokenizer.pad_token = next(token for token in (stated, *PADDING_TOKENS, IM_END) if token in special)
    changes.append(f"the padding token is {tokenizer.pad_token}; its tokenizer names none that can be used")


def check_whole_tokens(tokenizer: PreTrainedTokenizerFast, folder: Path, tokens: Sequence[str]) -> None:
    """Each token that prompts are made of is one id, and no other token's.

    Raises:
        CheckpointError: one of ``tokens`` is not.
    """
    vocabulary = tokenizer.get_vocab()
    for token in tokens:
        text = f"a{token}{token}a"  # a picture is many in a row, and a word may touch it
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        sharing = [other for other, index in vocabulary.items() if index == vocabulary[token] and other != token]
        if ids.count(vocabulary[token]) != 2 or sharing:
            raise CheckpointError(
                f"the tokenizer of '{folder}' does not give {token} an id of its own",
                given=f"{text} becomes {ids}" + (f", and {sharing[0]!r} has its id too" if sharing else ""),
                allowed=f"{vocabulary[token]} twice, and no other token with that id",
                todo="get the tokenizer's files again from where the model was published",
            )
