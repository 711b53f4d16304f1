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
from laco_export.errors import ImageError

from .pictures import Question

MAX_NEW_TOKENS = 32

DEFAULT_QUESTION = "Describe the picture."
"""Asked about a judging picture that the data asks nothing about."""


class AnswerJudge:
    """The share of FP32's answer tokens that a language model still chooses on other features.

    Each token is predicted from FP32's own answer before it, so one pass over the prompt and the answer judges all of
    them: a first wrong token does not spoil those behind it, and a block costs a prefill and not an answer.

    Args:
        bundle: with a language model.
        pictures: each judging picture's file and the question about it.
        features: FP32's ``image_features [1, T, D]`` of each.

    Raises:
        BundleError, ProviderMissingError: the language model cannot be loaded.
    """

    def __init__(self, bundle: Bundle, pictures: Sequence[tuple[Path, str]], features: Sequence[np.ndarray]):
        import torch

        from laco_engines.decoder import open_decoder
        from laco_engines.prompt import Prompter

        prompter = Prompter(bundle)
        self._decoder = open_decoder(bundle)
        self._rows = []
        for (path, question), expected in zip(pictures, features, strict=True):
            turns = [prompter.system_turn(None), prompter.user_turn(question, [path], alone=False)]
            prompt = prompter.join(turns)
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
        same: questions with the same answer.
        right_base, right: questions answered as the data has it, by the FP32 bundle and by the other; None where the
            data has no answers.
    """

    questions: int
    same: int
    right_base: int | None
    right: int | None

    @property
    def points(self) -> float:
        """Right answers lost, in points (a gain counts as none); 0 where the data has no answers."""
        if self.right is None:
            return 0.0
        return max(0.0, 100 * (self.right_base - self.right) / self.questions)


def ask(folder: Path, questions: Sequence[Question], advance: Callable[[], None] = lambda: None) -> list[str]:
    """Greedy answers of the bundle in ``folder``; a question whose picture cannot be read gets an empty one."""
    from laco_engines.answering import Answerer

    answerer = Answerer(open_bundle(folder), runtime="onnxruntime")
    answers = []
    for question in questions:
        try:
            answer = answerer.answer(list(question.images), question.text, max_new_tokens=MAX_NEW_TOKENS)
            answers.append(answer.text.strip())
        except ImageError:
            answers.append("")
        advance()
    return answers


def score(questions: Sequence[Question], base: Sequence[str], given: Sequence[str]) -> AnswerScore:
    """Compare the answers of two bundles."""
    truths = [question.truth for question in questions]
    known = all(truths)
    right = lambda answers: sum(answer == truth for answer, truth in zip(answers, truths)) if known else None
    return AnswerScore(len(questions), sum(a == b for a, b in zip(base, given)), right(base), right(given))
