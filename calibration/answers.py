"""What a bundle answers, for judging an INT8 tower by what it is for.

Single blocks are judged by :class:`AnswerJudge`: would the language model, given this block's features, still say what
it says with FP32's? The finished bundle is asked (:func:`ask`) and compared with the data's own answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from laco_export.bundle import Bundle, open_bundle
from laco_export.conversation import DEFAULT_QUESTION
from laco_export.errors import ImageError, UsageError
from laco_export.token_layouts import TokenLayout, pack_tokens

from .source.picture_set import PictureQuestion

if TYPE_CHECKING:
    from laco_engines.generation.text_runtime import TextRuntime
    from laco_engines.prompts.prompter import Prompt, Prompter
    from laco_engines.prompts.visuals import Visual

_MAX_NEW_TOKENS = 32


@dataclass(frozen=True)
class ReferenceAnswer:
    """What the language model says on FP32's features of a picture.

    Attributes:
        ids: int64 ``[P + A - 1]``: the prompt, and the answer but for its last token.
        image_positions: int64, where the picture's tokens stand in the prompt.
        layout: which these are: the features', and a newline where the model's family ends a picture in one.
        answer: the answer's ids, int64 ``[A]``.
    """

    ids: np.ndarray
    image_positions: np.ndarray
    layout: TokenLayout
    answer: np.ndarray


class AnswerJudge:
    """The share of FP32's answer tokens that a language model still chooses on other features.

    Each token is predicted from FP32's own answer before it, so one pass over the prompt and the answer judges all of
    them: a first wrong token does not spoil those behind it, and a block costs a prefill and not an answer.

    Args:
        text: the language model.
        newline: float32 ``[D]``, the embedding that ends a row or a picture, where the bundle has one.

    Attributes:
        references: its answer on FP32's features, by picture.
    """

    def __init__(self, text: TextRuntime, newline: np.ndarray | None = None):
        self._text, self._newline = text, newline
        self.references: list[ReferenceAnswer] = []

    @classmethod
    def on_features(
        cls, bundle: Bundle, pictures: Sequence[tuple[Path, str]], features: Sequence[np.ndarray]
    ) -> AnswerJudge:
        """Answer a question about each picture, as one tile, on FP32's features: seconds a picture.

        Args:
            bundle: with a language model.
            pictures: each judging picture's file and the question about it; where that cannot be asked (it is too
                long, or holds a special token), :data:`DEFAULT_QUESTION` is.
            features: FP32's ``image_features [1, T, D]`` of each.

        Raises:
            BundleError, ProviderMissingError: the language model cannot be loaded.
        """
        from laco_engines.generation.text_runtime import open_text_runtime
        from laco_engines.picture_encoder import read_newline
        from laco_engines.prompts.prompter import Prompter

        prompter, judge = Prompter(bundle), cls(open_text_runtime(bundle), read_newline(bundle))
        for (path, question), expected in zip(pictures, features, strict=True):
            tile = prompter.preparer.picture(path, alone=False, low_detail=True)
            try:
                prompt = _prompt(prompter, question, tile)
            except UsageError:  # too long, or it holds a special token
                prompt = _prompt(prompter, DEFAULT_QUESTION, tile)
            judge.references.append(judge._answer(prompter, prompt, expected))
        return judge

    def _answer(self, prompter: Prompter, prompt: Prompt, features: np.ndarray) -> ReferenceAnswer:
        from laco_engines.generation.options import GenerationOptions
        from laco_engines.generation.streaming import RowText
        from laco_engines.generation.text_runtime import EmbeddedPrompt

        ids, positions = prompt.input_ids, prompt.image_positions
        (layout,) = prompt.layouts
        row = RowText(prompter.tokenizer, end_tokens=prompter.decoder.eos_token_ids, limit=_MAX_NEW_TOKENS)
        embedded = EmbeddedPrompt(ids, self._embeds(ids, positions, layout, features))
        self._text.generate([embedded], [row], GenerationOptions())
        answer = np.asarray(row.token_ids, np.int64)
        return ReferenceAnswer(np.concatenate([ids, answer[:-1]]), positions, layout, answer)

    def share_kept(self, index: int, features: np.ndarray) -> float:
        """The share for picture ``index`` with other ``features [1, T, D]``."""
        reference = self.references[index]
        embeds = self._embeds(reference.ids, reference.image_positions, reference.layout, features)
        logits = self._text.logits(embeds, len(reference.answer))  # [A, V]
        return float((logits.argmax(-1) == reference.answer).mean())

    def _embeds(self, ids: np.ndarray, positions: np.ndarray, layout: TokenLayout, features: np.ndarray) -> np.ndarray:
        embeds = self._text.embed(ids)  # [T, D]
        embeds[positions] = pack_tokens(np.asarray(features, np.float32), [layout], self._newline)  # [n, D]
        return embeds


def _prompt(prompter, question: str, tile: Visual):
    return prompter.join([prompter.system_turn(None), prompter.user_turn(question, [tile], alone=False)])


@dataclass(frozen=True)
class AnswerScore:
    """Answers of two bundles to the same questions.

    Attributes:
        questions: that could be asked.
        same: questions with the same answer.
        with_answer: questions that the data has an answer to.
        right_base, right: of those, answered as the data has it, by the FP32 bundle and by the other; None where there
            are none.
    """

    questions: int
    same: int
    with_answer: int
    right_base: int | None
    right: int | None

    @property
    def points(self) -> float:
        """Right answers lost, in points (a gain counts as none); 0 where the data has no answers."""
        if self.right is None:
            return 0.0
        return max(0.0, 100 * (self.right_base - self.right) / self.with_answer)


def ask(
    folder: Path,
    questions: Sequence[PictureQuestion],
    advance: Callable[[], None] = lambda: None,
    *,
    at: str | None = None,
) -> list[str | None]:
    """Greedy answers of the bundle in ``folder``, at its first depth or at another; None to a question that cannot be
    asked: its picture cannot be read, or its text is empty, too long or holds a special token."""
    from laco_engines.answering import Answerer

    answerer = Answerer(open_bundle(folder, at), runtime="onnxruntime")
    answers: list[str | None] = []
    for question in questions:
        try:
            answer = answerer.answer(list(question.images), question.text, max_new_tokens=_MAX_NEW_TOKENS)
            answers.append(answer.text.strip())
        except (ImageError, UsageError):
            answers.append(None)
        advance()
    return answers


def score(
    questions: Sequence[PictureQuestion], base_answers: Sequence[str | None], answers: Sequence[str | None]
) -> AnswerScore:
    """Compare the answers of two bundles, question by question where both have one."""
    truths = (question.truth for question in questions)
    asked = [row for row in zip(truths, base_answers, answers) if None not in row]
    with_truth = [row for row in asked if row[0]]
    right = lambda index: sum(row[index] == row[0] for row in with_truth) if with_truth else None
    return AnswerScore(len(asked), sum(row[1] == row[2] for row in asked), len(with_truth), right(1), right(2))
