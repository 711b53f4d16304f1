"""A bundle's ``tokenizer.json``: refused where it does not fit its model, bounded where a text could make it run away.

A tokenizer is a program in a file: its normaliser may make a page of each letter, its regular expressions may try
for ever (the library gives up after ten million steps, by a Rust panic that is no ``Exception``), and its tokens may be
ones that the embedding has no row for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
from tokenizers import Tokenizer

from laco_export.bundle import Bundle
from laco_export.errors import BundleError, UsageError, is_panic, telling_line

TOKENIZER_NAME = "tokenizer.json"

_MOST_GROWTH = 32
"""Characters that a normaliser may make of one; NFKC makes 18 of the longest ligature, published ones one or two."""


def open_tokenizer(bundle: Bundle) -> Tokenizer:
    """The tokenizer, without padding and truncation.

    Raises:
        BundleError: the bundle has none or one that cannot be read; it has tokens beyond the embedding's rows, or its
            normaliser could multiply a text.
    """
    path = bundle.file(TOKENIZER_NAME)
    if TOKENIZER_NAME not in bundle.manifest.files:
        raise BundleError(
            f"bundle '{bundle.path}' has no {TOKENIZER_NAME}",
            todo="export it again from a checkpoint with a tokenizer.json",
        )
    try:
        tokenizer = Tokenizer.from_str(bundle.read(TOKENIZER_NAME).decode())  # the library opens paths in UTF-8 alone
    except ValueError as error:
        raise BundleError(f"the tokenizer '{path}' cannot be read: {telling_line(error)}") from error
    except BaseException as error:
        if not _is_of_tokenizers(error):
            raise
        raise BundleError(f"the tokenizer '{path}' cannot be read: {telling_line(error)}") from error
    rows = bundle.manifest.decoder.vocab_size
    last = max(tokenizer.get_added_tokens_decoder(), default=0)
    if last >= rows or tokenizer.get_vocab_size(with_added_tokens=False) > rows:
        raise BundleError(
            f"the tokenizer '{path}' has tokens for which the embedding has no row",
            given=f"{tokenizer.get_vocab_size():,} tokens, up to {last:,}",
            allowed=f"ids of 0 … {rows - 1:,}",
            todo="export the bundle again from a checkpoint whose tokenizer is its own",
        )
    growth = _growth_of(tokenizer)
    if growth > _MOST_GROWTH:
        raise BundleError(
            f"the tokenizer '{path}' has a normaliser that multiplies text",
            given=f"up to {growth:,.0f} characters of one",
            allowed=f"up to {_MOST_GROWTH}",
            todo="get the checkpoint's own tokenizer, and export again",
        )
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer


def token_ids(tokenizer: Tokenizer, text: str, rows: int) -> np.ndarray:
    """The ids of ``text``, int64 ``[T]``; arguments and errors as of :func:`tokens_with_places`."""
    return np.asarray([token for token, _ in tokens_with_places(tokenizer, text, rows)], np.int64)


def tokens_with_places(tokenizer: Tokenizer, text: str, rows: int) -> list[tuple[int, int]]:
    """The ids of ``text``, each with the character that it begins at, without the tokens that the tokenizer would put
    around it.

    Args:
        rows: of the embedding.

    Raises:
        UsageError: the tokenizer gives up over this text.
        BundleError: an id has no row.
    """
    try:
        encoding = tokenizer.encode(text, add_special_tokens=False)
    except BaseException as error:
        if not _is_of_tokenizers(error):
            raise
        raise UsageError(
            f"the tokenizer cannot tokenise the text: {telling_line(error)}",
            given=f"{len(text):,} characters",
            todo="ask in other words; where many texts fail, its patterns are not sound: get the model's own "
            "tokenizer.json, and export again",
        ) from error
    last = max(encoding.ids, default=0)
    if last >= rows:
        raise BundleError(
            "the tokenizer gives a token for which the embedding has no row",
            given=f"{tokenizer.id_to_token(last)!r} ({last})",
            allowed=f"0 … {rows - 1}",
            todo="export the bundle again from a checkpoint whose tokenizer is its own",
        )
    return [(token, start) for token, (start, _) in zip(encoding.ids, encoding.offsets, strict=True)]


def _is_of_tokenizers(error: BaseException) -> bool:
    """Whether the library failed: an exception of its own, or a panic, which is no ``Exception``."""
    return type(error) is Exception or is_panic(error)


def _growth_of(tokenizer: Tokenizer) -> float:
    """Characters that the normaliser may make of one, at most."""
    if tokenizer.normalizer is None:
        return 1.0
    growth = 1.0
    for step in _steps(json.loads(tokenizer.normalizer.__getstate__())):
        if step["type"] == "Replace":
            pattern, made = step["pattern"], len(step["content"])
            # A regular expression may match the empty text before each character.
            growth *= max(1.0, made / max(1, len(pattern["String"]))) if "String" in pattern else 1.0 + made
        elif step["type"] == "Prepend":
            growth *= 1 + len(step["prepend"])
    return growth


def _steps(normalizer: dict) -> Iterator[dict]:
    if normalizer["type"] == "Sequence":
        for part in normalizer["normalizers"]:
            yield from _steps(part)
    else:
        yield normalizer
