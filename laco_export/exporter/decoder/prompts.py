"""Real positions: prompts of text, and of pictures' features where there are some, that a decoder is judged on.

A model of language meets random tokens and noise nowhere, and what it does there says nothing of it: a real model's
first position alone can hold a hundred times the activations of any other. So the graph is proven and the rounding is
priced where the model will be used: in its chat template, over sentences.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...chat_format import CHATML, ChatFormat
from ...conversation import IMAGE_MARK, expand_image_tokens, render, render_with_mask
from ...errors import UsageError
from ...tokens_behind import tokens_of_spans
from .sentences import GREEDY_QUESTIONS, JUDGED_ON, OPENINGS, ROUNDED_OVER
from .user_texts import read_user_text

TEXT_WINDOW = 256
"""Tokens of a text that are read at once."""

_MOST_WINDOWS = 32  # of a user's texts: 8,192 tokens; more costs minutes and moves the figures little
_PICTURES = 2
_ROUNDING_WINDOWS = 24  # 6,144 tokens, more than the inputs of a group of columns by three
_PARAGRAPHS = 3  # of a topic


@dataclass(frozen=True)
class DecoderPrompt:
    """What a decoder reads at once.

    Attributes:
        ids: int64 ``[T]``.
        counted: bool ``[T]``: positions whose next token is of a text or an answer, and so is judged.
        features: float32 ``[tokens, D]``, in place of the image tokens; None without a picture.
        image_token_id: None without a picture.
    """

    ids: np.ndarray
    counted: np.ndarray
    features: np.ndarray | None = None
    image_token_id: int | None = None

    def embeds(self, table) -> np.ndarray:
        """float32 ``[T, D]`` by an embedding weight of torch ``[V, D]``."""
        rows = table.detach()[self.ids].float().numpy().copy()
        if self.features is not None:
            rows[self.ids == self.image_token_id] = self.features
        return rows

    def within(self, length: int) -> DecoderPrompt:
        """Its first ``length`` positions, and of a picture the features that stand there."""
        if len(self.ids) <= length:
            return self
        ids, counted = self.ids[:length], self.counted[:length].copy()
        counted[-1] = False  # nothing follows
        shown = None if self.features is None else self.features[: int((ids == self.image_token_id).sum())]
        return DecoderPrompt(ids, counted, shown, self.image_token_id)


@dataclass(frozen=True)
class DecoderPrompts:
    """What a decoder is rounded over and what it is judged on, never the same text.

    Attributes:
        judged: what the decoder is compared on.
        rounding: what its weights are rounded over.
        greedy: questions, whose answers are told, with their prompts.
        decode: ids to text; None where there is no tokenizer.
        texts: where the text is from, for the manifest.
    """

    judged: tuple[DecoderPrompt, ...]
    rounding: tuple[DecoderPrompt, ...] = ()
    greedy: tuple[tuple[str, DecoderPrompt], ...] = ()
    decode: object = None
    texts: str = ""


def prompts_of(
    processor,
    features: Sequence[np.ndarray],
    image_token_id: int,
    texts: Sequence[Path],
    *,
    chat_format: ChatFormat = CHATML,
    context_length: int | None = None,
) -> DecoderPrompts:
    """The prompts for a checkpoint's language model.

    Args:
        processor: the checkpoint's.
        features: the golden pictures', float32 ``[tokens, D]`` each.
        texts: the user's files (``--llm-texts``); empty for what ships with this package.
        chat_format: the checkpoint's.
        context_length: the model's longest prompt in tokens, to which all are cut; None: they fit.

    Raises:
        UsageError: a text cannot be read or is too short.
    """
    encode = _encoder_of(processor.tokenizer)
    begin = []
    if chat_format.begin_token:
        begin = [processor.tokenizer.convert_tokens_to_ids(chat_format.begin_token)]
    chat = _Chat(encode, chat_format, begin)
    chats = [chat(question, answer) for question, answer in JUDGED_ON]
    pictures = [
        chat(question, answer, rows, image_token_id)
        for rows, (question, answer) in zip(features[:_PICTURES], JUDGED_ON[1::2])
    ]
    if texts:
        windows = user_windows(encode, texts)
        rounding, judged = windows[0::2], [*windows[1::2], *chats[:2], *pictures]
    else:
        rounding = windows_of(encode(conversations(chat_format)))[:_ROUNDING_WINDOWS]
        judged = [*(_text(encode(opening)) for opening in OPENINGS), *chats, *pictures]
    greedy = [(question, chat.question(question)) for question in GREEDY_QUESTIONS]
    named = ", ".join(path.name for path in texts) if texts else "the package's own questions, answers and paragraphs"
    if context_length is not None:
        rounding, judged = ([prompt.within(context_length) for prompt in some] for some in (rounding, judged))
        judged = [prompt for prompt in judged if prompt.counted.any()]  # a paragraph's first positions always are
    return DecoderPrompts(
        tuple(judged), tuple(rounding), tuple(greedy), lambda ids: processor.tokenizer.decode(ids).strip(), named
    )


def random_prompts(vocabulary: int) -> DecoderPrompts:
    """Random tokens: for a language model without a tokenizer."""
    ids = np.random.default_rng(0).integers(0, vocabulary, 24)
    return DecoderPrompts((_text(ids),), texts="random tokens")


def check_texts(processor, texts: Sequence[Path]) -> None:
    """Refuse what :func:`prompts_of` would refuse of the user's texts, before the minutes of work that come first.

    Raises:
        UsageError: as :func:`user_windows`.
    """
    if texts:
        user_windows(_encoder_of(processor.tokenizer), texts)


def user_windows(encode, texts: Sequence[Path]) -> list[DecoderPrompt]:
    """The windows of the user's files, evenly spaced where there are too many.

    Raises:
        UsageError: a file cannot be read as UTF-8, is empty, or all of them hold less than two windows.
    """
    ids: list[int] = []
    for path in texts:
        ids += encode(read_user_text(path))
    if len(ids) < 2 * TEXT_WINDOW:
        raise UsageError(
            "the texts of --llm-texts are too short",
            given=f"{len(ids)} tokens",
            allowed=f"{2 * TEXT_WINDOW} tokens or more: one half is rounded over, the other is judged on",
            todo="give more text, or leave --llm-texts out for the package's own",
        )
    windows = windows_of(ids)
    chosen = np.linspace(0, len(windows) - 1, min(len(windows), _MOST_WINDOWS)).round().astype(int)
    return [windows[number] for number in chosen]


def windows_of(ids: Sequence[int]) -> list[DecoderPrompt]:
    """Whole windows; what is left over at the end is left out."""
    return [_text(ids[start : start + TEXT_WINDOW]) for start in range(0, len(ids) - TEXT_WINDOW + 1, TEXT_WINDOW)]


def conversations(chat_format: ChatFormat = CHATML) -> str:
    """The package's own questions and answers, twice, and conversations about the language reference behind ``help()``,
    which every Python installation has: the first are more like what is asked, the second are more."""
    from pydoc_data.topics import topics

    written = lambda question, answer: render([("user", question), ("assistant", answer)], chat_format=chat_format)
    everyday = [written(question, answer) for question, answer in ROUNDED_OVER]
    technical = []
    for name in sorted(topics):
        prose = [" ".join(part.split()) for part in topics[name].split("\n\n")]
        prose = [part for part in prose if len(part.split()) > 25 and ">>>" not in part][:_PARAGRAPHS]
        if prose:
            technical.append(written(f"What should I know about {name}?", "\n\n".join(prose)))
    order = np.random.default_rng(0).permutation(len(technical))
    return "".join([*everyday, *everyday[::-1], *(technical[number] for number in order)])


def _encoder_of(tokenizer):
    return lambda text: tokenizer(text, add_special_tokens=False).input_ids


def _text(ids: Iterable[int]) -> DecoderPrompt:
    ids = np.asarray(ids, np.int64)
    counted = np.ones(len(ids), bool)
    counted[-1] = False  # nothing follows
    return DecoderPrompt(ids, counted)


@dataclass(frozen=True)
class _Chat:
    """Conversations in a chat format as prompts; ``begin`` is what the tokenizer puts before each."""

    encode: Callable[[str], list[int]]
    chat_format: ChatFormat
    begin: list[int]

    def question(self, question: str) -> DecoderPrompt:
        text = render([("user", question)], add_generation_prompt=True, chat_format=self.chat_format)
        ids = np.asarray([*self.begin, *self.encode(text)], np.int64)
        return DecoderPrompt(ids, np.zeros(len(ids), bool))

    def __call__(
        self, question: str, answer: str, features: np.ndarray | None = None, image_token_id: int | None = None
    ) -> DecoderPrompt:
        """A question and its answer, whose tokens are judged."""
        shown = [] if features is None else [1]  # one token, which becomes as many as there are embeddings
        turns = [("user", f"{IMAGE_MARK}\n" * len(shown) + question), ("assistant", answer)]
        spans = [
            (
                text if is_answer else expand_image_tokens(text, [1] * text.count(IMAGE_MARK), self.chat_format),
                is_answer,
            )
            for text, is_answer in render_with_mask(turns, self.chat_format)
        ]
        ids, answers = list(self.begin), [False] * len(self.begin)
        for tokens, is_answer in tokens_of_spans(spans, self.encode):
            for token in tokens:
                count = len(features) if shown and token == image_token_id else 1
                ids += [token] * count
                answers += [is_answer] * count
        counted = np.zeros(len(ids), bool)
        counted[:-1] = answers[1:]  # a position is judged by what follows it
        return DecoderPrompt(np.asarray(ids, np.int64), counted, features, image_token_id if shown else None)
