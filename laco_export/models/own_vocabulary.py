"""A tokenizer that is kept as it is: checked against the model, with a picture's token where it has none."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedTokenizerFast

from .vocabulary import PADDING_TOKENS, ReadyVocabulary, check_rows, check_whole_tokens, make_special


def own_vocabulary(
    tokenizer: PreTrainedTokenizerFast,
    model_rows: int,
    folder: Path,
    *,
    image_token: str,
    answer_end: str,
    end_ids: Sequence[int],
    pad_id: int | None,
) -> ReadyVocabulary:
    """Make ``tokenizer`` ready for pictures, in place, without a change to what it makes of text.

    Args:
        model_rows: ``vocab_size`` of the model's configuration.
        folder: named in errors.
        image_token: added where the tokenizer has none of that name, made special where it is not.
        answer_end: the token by which the chat format ends an answer.
        end_ids, pad_id: what the model's configurations say of its end tokens and its padding token.

    Raises:
        CheckpointError: the tokenizer is another model's, or does not give ``image_token`` an id of its own.
    """
    check_rows(tokenizer, model_rows, folder)
    changes, new = [], image_token not in tokenizer.get_vocab()
    image_id = tokenizer.convert_tokens_to_ids(image_token)
    if new or not tokenizer.added_tokens_decoder[image_id].special:
        make_special(tokenizer, [image_token])
        image_id = tokenizer.convert_tokens_to_ids(image_token)
    check_whole_tokens(tokenizer, folder, [image_token])
    rows = max(model_rows, image_id + 1)
    if new:
        where = "a free row of the model" if rows == model_rows else "a new row"
        changes.append(f"new token: {image_token} ({image_id}), which takes {where}")
    if tokenizer.pad_token in (None, image_token):
        tokenizer.pad_token = _padding(tokenizer, pad_id, image_token, answer_end)
        changes.append(f"the padding token is {tokenizer.pad_token}; its tokenizer names none that can be used")
    if without_row := [index for index in end_ids if not 0 <= index < rows]:
        changes.append(f"left out of the end tokens, since the model has no row for it: {without_row[0]}")
    ends = [tokenizer.convert_tokens_to_ids(answer_end), *(index for index in end_ids if index not in without_row)]
    end_ids = tuple(dict.fromkeys(index for index in ends if index is not None and index != image_id))
    return ReadyVocabulary(tokenizer, rows, image_id, (image_id,) if new else (), end_ids, tuple(changes))


def _padding(tokenizer: PreTrainedTokenizerFast, pad_id: int | None, image_token: str, answer_end: str) -> str:
    """A token that padding rows, which are masked, may hold: any but a picture's."""
    vocabulary = tokenizer.get_vocab()
    stated = None if pad_id is None else tokenizer.convert_ids_to_tokens(pad_id)
    return next(t for t in (stated, *PADDING_TOKENS, answer_end) if t in vocabulary and t != image_token)
