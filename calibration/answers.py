"""What a bundle answers, for judging an INT8 tower by what it is for.

Single blocks are judged by :class:`AnswerJudge`: would the language model, given this block's features, still say what
it says with FP32's? The finished bundle is asked (:func:`ask`) and compared with the data's own answers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from laco_export.bundle import Bundle, open_bundle
from laco_export.errors import ImageError, UsageError

from .source.picture_set import Question

MAX_NEW_TOKENS = 32

DEFAULT_QUESTION = "Describe the picture."
"""Asked about a judging picture that the data asks nothing about."""


class AnswerJudge:
    """The share of FP32's answer tokens that a language model still chooses on other features.

    Each token is predicted from FP32's own answer before it, so one pass over the prompt and the answer judges all of
    them: a first wrong token does not spoil those behind it, and a block costs a prefill and not an answer.

    Args:
        bundle: with a language model.
        pictures: each judging picture's file and the question about it; where that cannot be asked (it is too long, or
            holds a special token), :data:`DEFAULT_QUESTION` is.
        features: FP32's ``image_features [1, T, D]`` of each.

    Raises:
        BundleError, ProviderMissingError: the language model cannot be loaded.
    """

    def __init__(self, bundle: Bundle, pictures: Sequence[tuple[Path, str]], features: Sequence[np.ndarray]):
        import torch

        from laco_engines.generation.decoder import open_decoder
        from laco_engines.prompts.prompter import Prompter

        prompter = Prompter(bundle)
        self._decoder = open_decoder(bundle)
        self._rows = []
        for (path, question), expected in zip(pictures, features, strict=True):
            try:
                prompt = self._prompt(prompter, question, path)
            except UsageError:  # too long, or it holds a special token
                prompt = self._prompt(prompter, DEFAULT_QUESTION, path)
            ids = torch.from_numpy(prompt.input_ids)[None]  # [1, P]
            positions = torch.from_numpy(prompt.image_positions)
            with torch.inference_mode():
                whole = self._decoder.generate(
                    input_ids=ids,
                    inputs_embeds=self._embeds(ids, positions, expected),
                    attention_mask=torch.ones_like(ids),
                    max_new_tokens=MAX_NEW_TOKENS,
                    do_sample=False,
                    eos_token_id=list(bundle.manifest.decoder.eos_token_ids),
                    pad_token_id=bundle.manifest.decoder.eos_token_ids[0],
                )
            answer = whole[0, ids.shape[1] :]
            self._rows.append((torch.cat([ids, answer[None, :-1]], 1), positions, answer))

    @staticmethod
    def _prompt(prompter, question: str, path: Path):
        return prompter.join([prompter.system_turn(None), prompter.user_turn(question, [path], alone=False)])

    def share_kept(self, index: int, features: np.ndarray) -> float:
        """The share for picture ``index`` with other ``features [1, T, D]``."""
        import torch

        ids, positions, answer = self._rows[index]
        with torch.inference_mode():
            found = self._decoder.forward(
                inputs_embeds=self._embeds(ids, positions, features), logits_to_keep=len(answer)
            )
        return float((found.logits[0].argmax(-1) == answer).float().mean())

    def _embeds(self, ids, positions, features: np.ndarray):
        import torch

        embeds = self._decoder.embed(ids)
        embeds[0, positions] = torch.from_numpy(np.asarray(features[0], np.float32)).to(embeds)
        return embeds


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


def ask(folder: Path, questions: Sequence[Question], advance: Callable[[], None] = lambda: None) -> list[str | None]:
    """Greedy answers of the bundle in ``folder``; None to a question that cannot be asked: its picture cannot be read,
    or its text is empty, too long or holds a special token."""
    from laco_engines.answering import Answerer

    answerer = Answerer(open_bundle(folder), runtime="onnxruntime")
    answers: list[str | None] = []
    for question in questions:
        try:
            answer = answerer.answer(list(question.images), question.text, max_new_tokens=MAX_NEW_TOKENS)
            answers.append(answer.text.strip())
        except (ImageError, UsageError):
            answers.append(None)
        advance()
    return answers


def score(questions: Sequence[Question], base: Sequence[str | None], given: Sequence[str | None]) -> AnswerScore:
    """Compare the answers of two bundles, question by question where both have one."""
    asked = [row for row in zip((one.truth for one in questions), base, given) if None not in row]
    known = [row for row in asked if row[0]]
    right = lambda index: sum(row[index] == row[0] for row in known) if known else None
    return AnswerScore(len(asked), sum(row[1] == row[2] for row in asked), len(known), right(1), right(2))
