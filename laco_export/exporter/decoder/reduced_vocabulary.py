"""Which tokens a reduced vocabulary keeps: those of the user's texts, and those that no answer can do without.

Kept whatever the texts hold: a token a byte, so that any text can still be spelled; the tokens that end an answer and
what an answer begins with; and all tokens that were added to the tokenizer's own, of which the chat format's are some.
A size is filled with the texts' tokens, the most frequent first, and where they do not reach it in the tokenizer's own
order, which for BPE is that of its merges. The input embedding stays whole: a prompt may hold any token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from tokenizers import Tokenizer
from tokenizers.pre_tokenizers import ByteLevel

from ...chat_format import ChatFormat
from ...errors import UsageError
from .left_out_tokens import LeftOut, left_out_by_script
from .precision import DecoderPrecision
from .vocabulary_request import OPTION, VocabularyRequest

_PASSAGE = 2000
"""Characters that are tokenised at once: few enough that no text makes a tokenizer run away, and of every two passages
one can be held out."""

_NAMED = 3  # tokens in an error


@dataclass(frozen=True)
class ReducedVocabulary:
    """The tokens that a head has rows for.

    Attributes:
        token_ids: int64 ``[K]``, ascending.
        vocab_size: V, the rows of the whole head.
        source: what they were chosen from, for people.
        held_out_coverage: of the texts' tokens, the share with a row where each half of the texts is judged by a
            vocabulary that was chosen from the other half in the same way; None where the tokens were listed, or the
            texts are too short to be halved.
        left_out: what has no row, by script.
    """

    token_ids: np.ndarray
    vocab_size: int
    source: str
    held_out_coverage: float | None
    left_out: tuple[LeftOut, ...]

    def __len__(self) -> int:
        return len(self.token_ids)

    def to_manifest(self, precision: DecoderPrecision, width: int) -> dict:
        """For the manifest's ``decoder.vocabulary``; ``width``: weights of a row."""
        return {
            "rows": len(self),
            "of": self.vocab_size,
            "source": self.source,
            "bytes_saved": precision.bytes_of_head(self.vocab_size - len(self), width),
            "held_out_coverage": self.held_out_coverage,
            "left_out": [{**asdict(record), "examples": list(record.examples)} for record in self.left_out],
        }


class NeededTokens:
    """What an answer needs of one tokenizer.

    Args:
        end_token_ids: the tokens that end an answer.
        vocab_size: rows of the head; tokens beyond them have none.

    Attributes:
        required: ids without which a vocabulary is refused: single bytes, ends, what an answer begins with, and the
            added tokens of the chat format.
        added: the ids of all added tokens, and :attr:`required`.
    """

    def __init__(self, tokenizer: Tokenizer, chat_format: ChatFormat, end_token_ids: Iterable[int], vocab_size: int):
        vocabulary, texts = tokenizer.get_vocab(), chat_format.fixed_texts
        added = {index: token.content for index, token in tokenizer.get_added_tokens_decoder().items()}
        own = {index for index, content in added.items() if any(content in text for text in texts)}
        single_bytes = {vocabulary[name] for name in _byte_names() if name in vocabulary}
        begin = tokenizer.encode(chat_format.answer_start, add_special_tokens=False).ids
        has_row = lambda ids: frozenset(index for index in ids if 0 <= index < vocab_size)
        self.required = has_row({*single_bytes, *end_token_ids, *begin, *own})
        self.added = self.required | has_row(added)


def choose_vocabulary(
    request: VocabularyRequest, tokenizer: Tokenizer, needed: NeededTokens, vocab_size: int
) -> ReducedVocabulary:
    """The tokens that are kept.

    Args:
        tokenizer: the checkpoint's; nothing is put around what it is given.
        vocab_size: rows of the whole head.

    Raises:
        UsageError: a text cannot be read; listed tokens are none of the tokenizer's, or leave out what an answer needs;
            the size is below the least or above the most that can be had; or nothing would be left out.
    """
    with_token = _with_token(tokenizer, vocab_size)
    if request.listed:
        token_ids = kept_in_any_case(request, tokenizer, needed, vocab_size)
        return _reduced(token_ids, tokenizer, vocab_size, request)
    counts = _counts_by_half(request.texts(), tokenizer, vocab_size)  # [2, V]
    chosen = _filled(needed.added, counts.sum(0), request.size, with_token)
    coverage = _held_out_coverage(counts, lambda half: _filled(needed.added, half, request.size, with_token))
    return _reduced(chosen, tokenizer, vocab_size, request, coverage)


def kept_in_any_case(
    request: VocabularyRequest, tokenizer: Tokenizer, needed: NeededTokens, vocab_size: int
) -> np.ndarray:
    """What is kept of listed tokens, and whatever texts may hold; arguments and errors as of :func:`choose_vocabulary`,
    of which this is what needs no texts."""
    with_token = _with_token(tokenizer, vocab_size)
    token_ids = _listed(request, tokenizer, needed, with_token) if request.listed else needed.added
    return _filled(token_ids, None, request.size, with_token)


def _with_token(tokenizer: Tokenizer, vocab_size: int) -> np.ndarray:
    """bool ``[V]``: rows that stand for a token; published models have some that do not."""
    with_token = np.zeros(vocab_size, bool)
    with_token[[index for index in tokenizer.get_vocab().values() if index < vocab_size]] = True
    return with_token


def _reduced(
    token_ids: np.ndarray,
    tokenizer: Tokenizer,
    vocab_size: int,
    request: VocabularyRequest,
    coverage: float | None = None,
) -> ReducedVocabulary:
    if len(token_ids) == vocab_size:
        raise UsageError(
            f"{OPTION} leaves nothing out", given=f"{vocab_size:,} of {vocab_size:,} tokens", todo=f"leave out {OPTION}"
        )
    left_out = tuple(left_out_by_script(tokenizer, token_ids, vocab_size))
    return ReducedVocabulary(token_ids, vocab_size, request.source, coverage, left_out)


def _filled(first: Iterable[int], counts: np.ndarray | None, size: int | None, with_token: np.ndarray) -> np.ndarray:
    """``first``, then what was counted, the most frequent first, then the others in their order, up to ``size``.

    Args:
        counts: int ``[V]``; None for none.
        with_token: bool ``[V]``: rows that stand for a token.
    """
    inside = np.zeros(len(with_token), bool)
    inside[list(first)] = True
    least, most = int(inside.sum()), int((with_token | inside).sum())
    if size is not None and not least <= size <= most:
        raise UsageError(
            f"{OPTION}-size cannot be had",
            given=f"{size:,}",
            allowed=f"{least:,} (what is kept in any case: single bytes, special tokens, what is listed) … {most:,}",
        )
    counted = np.zeros(0, np.int64) if counts is None else np.flatnonzero((counts > 0) & ~inside)
    if counts is not None:
        counted = counted[np.argsort(-counts[counted], kind="stable")]
    if size is None:
        inside[counted] = True
        return np.flatnonzero(inside)
    inside[counted[: size - least]] = True
    others = np.flatnonzero(with_token & ~inside)
    inside[others[: size - int(inside.sum())]] = True
    return np.flatnonzero(inside)


def _held_out_coverage(counts: np.ndarray, choose: Callable[[np.ndarray], np.ndarray]) -> float | None:
    """Of both halves' tokens, the share that a vocabulary chosen from the other half has; None where one is empty."""
    first, second = counts
    if not first.any() or not second.any():
        return None
    covered = int(second[choose(first)].sum()) + int(first[choose(second)].sum())
    return covered / int(counts.sum())


def _counts_by_half(texts: Iterable[str], tokenizer: Tokenizer, vocab_size: int) -> np.ndarray:
    """int64 ``[2, V]``: how often each token stands in every other passage of the texts, and in those between."""
    counts = np.zeros((2, vocab_size), np.int64)
    for number, passage in enumerate(passage for text in texts for passage in passages(text)):
        ids = np.asarray(tokenizer.encode(passage, add_special_tokens=False).ids, np.int64)
        counts[number % 2] += np.bincount(ids[ids < vocab_size], minlength=vocab_size)
    return counts


def passages(text: str) -> Iterator[str]:
    """A text in parts of at most :data:`_PASSAGE` characters, cut behind a line or before a space where it can be."""
    start = 0
    while start < len(text):
        end = start + _PASSAGE
        if end < len(text):
            end = next(
                (cut for cut in (text.rfind("\n", start, end) + 1, text.rfind(" ", start, end)) if cut > start), end
            )
        yield text[start:end]
        start = end


def _listed(request: VocabularyRequest, tokenizer: Tokenizer, needed: NeededTokens, with_token: np.ndarray) -> set[int]:
    vocabulary = tokenizer.get_vocab()
    ids = {vocabulary.get(entry, -1) if isinstance(entry, str) else entry for entry in request.listed}
    unknown = [
        entry
        for entry in request.listed
        if (vocabulary.get(entry, -1) if isinstance(entry, str) else entry) not in range(len(with_token))
    ]
    if unknown:
        raise UsageError(
            f"{OPTION} lists what is no token of the language model",
            given=_shown([repr(entry) for entry in unknown]),
            allowed=f"ids of 0 … {len(with_token) - 1:,}, or tokens as tokenizer.json spells them",
        )
    if missing := sorted(needed.required - ids):
        raise UsageError(
            f"{OPTION} leaves out tokens that an answer needs: its end, single bytes, or the chat format's own",
            given=_shown([f"{tokenizer.id_to_token(index)} ({index})" for index in missing]),
            allowed=f"a list with all {len(needed.required):,} of them",
            todo="add them to the list; or give texts, to which they are added",
        )
    return ids


def _shown(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED:,} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more


def _byte_names() -> list[str]:
    """How byte-level tokenizers and SentencePiece's spell the 256 bytes."""
    return [*sorted(ByteLevel.alphabet()), *(f"<0x{byte:02X}>" for byte in range(256))]
