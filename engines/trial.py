"""A finished bundle is asked its golden questions, as ``laco-engine run`` would ask it.

::

    try_bundle(folder)                         # by laco-export and laco-calibrate, before the folder gets its name
    parts = check_answers(answerer, …)         # by laco-engine diff, part by part

The questions are about the golden pictures; the answers, their tokens and logits are PyTorch's
(:mod:`laco_export.golden_answers`). The bundle is opened like any other, prepares the pictures and the prompt, encodes,
packs, and answers through its text runtime and the KV cache. It is held to what the precision of its parts
costs (:mod:`.comparison.logits_check`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from laco_export.agreement import Tolerance, agreement
from laco_export.bundle import Bundle, open_bundle
from laco_export.errors import LacoError, NotFiniteError
from laco_export.golden import GoldenPictures, read_golden
from laco_export.golden_answers import GoldenAnswer, GoldenAnswers, read_golden_answers
from laco_export.layout_rules import layout_rules
from laco_export.summary import at_depth

from .answering import Answerer
from .comparison.golden_check import compare_features, pixel_values, tolerance
from .comparison.logits_check import DECODER_ERROR, check_logits
from .comparison.part_check import PartCheck
from .generation.logits_processors import ForcedAnswer
from .picture_encoder import read_newline
from .prompts.prompter import Prompt

_MOVED = Tolerance.of_relative_error(0.01)
"""Of a picture's embeddings in the prompt against the tower's own output: a graph for two pictures may round otherwise
than the graph for one, and a token in another's place is off by tenths."""


class TrialError(LacoError):
    """A finished bundle cannot be asked, or does not answer as PyTorch does."""


@dataclass(frozen=True)
class FeaturesHere:
    """What stands for the golden pictures in a prompt, if it is packed as it should be.

    Attributes:
        features: golden picture → float32 ``[tokens, D]``.
        error: of them, relative to PyTorch's, of the worst picture.
        allowed: what the embeddings in a prompt may be off by from them.
    """

    features: dict[int, np.ndarray]
    error: float
    allowed: Tolerance

    @classmethod
    def computed(cls, bundle: Bundle, golden: GoldenPictures, indices: Sequence[int], runtime) -> FeaturesHere:
        """The golden pictures ``indices`` as ``runtime``, a loaded vision tower, encodes them."""
        chosen = list(indices)
        features = runtime.encode(pixel_values(bundle, golden.pictures[chosen])) if chosen else np.empty(0)
        names = [golden.names[index] for index in chosen]
        compared = compare_features(bundle, names, golden.image_features[chosen], features)
        errors = [picture.relative_error for _, picture in compared]
        return cls(dict(zip(chosen, features)), float(np.max(errors, initial=0.0)), _MOVED)

    @classmethod
    def of_pytorch(cls, bundle: Bundle, golden: GoldenPictures) -> FeaturesHere:
        """PyTorch's own, of a tower that was proven to give them; nothing is encoded."""
        return cls(dict(enumerate(golden.image_features)), 0.0, tolerance(bundle))


def try_bundle(folder: Path, *, threads: int | None = None) -> dict:
    """Open a finished bundle as its user will, and ask it.

    Returns:
        what came of it: runtime, provider, and each part's verdict; or why it could not be asked: it has no golden
        answers, or no runtime of this machine has its tower's kernels.

    Raises:
        TrialError: it cannot be opened, or a part is not PyTorch's; the message names it.
    """
    try:
        runtimes, parts = _asked_at_each_depth(open_bundle(folder), threads)
    except LacoError as error:
        if _lacks_kernels(error):
            return {"parts": [], "not_asked": f"{error.failed}; ask it on its device: laco-engine diff"}
        raise TrialError(
            f"the finished bundle cannot be asked: {error.failed}",
            given=error.given,
            allowed=error.allowed,
            todo=error.todo,
        ) from error
    if not runtimes:
        return {"parts": [], "not_asked": "it has no golden answers"}
    if wrong := [part for part in parts if not part["passed"]]:
        raise TrialError(
            "the finished bundle does not answer as PyTorch does, and was not given its name",
            given="; ".join(f"{at_depth(part)}{part['part']}: {part['detail']}" for part in wrong),
            todo="report this with the checkpoint's config.json",
        )
    return {**runtimes, "parts": parts, "not_asked": None}


def _asked_at_each_depth(bundle: Bundle, threads: int | None) -> tuple[dict[str, str], list[dict]]:
    """What ran, and the parts, each with its depth where there are several; nothing where nothing can be asked. One
    tower is in memory at a time."""
    answerer, runtimes, parts = None, {}, []
    for depth in bundle.depths:
        view = bundle.at(depth)
        golden = read_golden(view)
        answers = read_golden_answers(view, len(golden.names))
        if answers is None:
            continue
        if answerer is None:
            answerer = Answerer(bundle, at=depth, threads=threads)
            text = answerer.text
            runtimes = {"runtime": answerer.vision.name, "text_runtime": text.name, "provider": text.provider}
        else:
            answerer.let_go_of_tower()
            answerer = answerer.at(depth)
        where = {"depth": depth} if len(bundle.depths) > 1 else {}
        parts += [{**where, **part.to_dict()} for part in _parts(answerer, golden, answers)]
    return runtimes, parts


def check_answers(
    answerer: Answerer, pictures: GoldenPictures, golden: GoldenAnswers, here: FeaturesHere
) -> list[PartCheck]:
    """Ask each golden question, and compare what the model reads and what it answers with PyTorch.

    Args:
        here: of all pictures that are asked about.
    """
    parts = check_newline(answerer.bundle, golden)
    for answer in golden.answers:
        parts += _Asked(answerer, pictures, golden, here, answer).parts()
    return parts


def pictures_asked_about(golden: GoldenAnswers) -> list[int]:
    """The golden pictures that a question is about."""
    return sorted({index for answer in golden.answers for index in answer.question.pictures})


def _parts(answerer: Answerer, golden: GoldenPictures, answers: GoldenAnswers) -> list[PartCheck]:
    bundle = answerer.bundle
    if bundle.manifest.vision.calibration is None:
        here = FeaturesHere.of_pytorch(bundle, golden)
    else:  # a calibrated tower's budget is no measure of where its tokens stand
        here = FeaturesHere.computed(bundle, golden, pictures_asked_about(answers), answerer.vision)
    return check_answers(answerer, golden, answers, here)


def _lacks_kernels(error: LacoError) -> bool:
    """Whether ONNX Runtime has no kernels for the tower here, as its CPU provider has none in bfloat16."""
    return type(error.__cause__).__name__ == "NotImplemented"


def check_newline(bundle: Bundle, golden: GoldenAnswers) -> list[PartCheck]:
    """The embedding that ends a tiled row, where there is one: copied, and so PyTorch's bit by bit."""
    if golden.newline is None:
        return []
    actual = read_newline(bundle)
    if actual is None:
        return [PartCheck("image newline", False, "the bundle has none", {"max_abs": None})]
    difference = float(np.abs(actual - golden.newline).max())
    words = "bit by bit" if difference == 0 else f"off by up to {difference:.3g}, where nothing may be"
    return [PartCheck("image newline", difference == 0, words, {"max_abs": difference})]


class _Asked:
    """One golden question to a loaded bundle."""

    def __init__(
        self,
        answerer: Answerer,
        pictures: GoldenPictures,
        golden: GoldenAnswers,
        here: FeaturesHere,
        answer: GoldenAnswer,
    ):
        self._answerer, self._pictures, self._golden, self._here = answerer, pictures, golden, here
        self._answer, self._bundle = answer, answerer.bundle
        self._shown = answer.question.pictures_in_words()

    def parts(self) -> list[PartCheck]:
        question = self._answer.question
        prompt = self._answerer.prompter.prepare(question.shown(self._pictures.pictures), question.text)
        if not np.array_equal(prompt.input_ids, self._answer.prompt_ids):
            return [self._other_prompt(prompt)]
        try:
            one_tile = all(visual.layout.tiles == 1 for visual in prompt.visuals)
            packed = question.pictures and (question.as_one or one_tile)
            return [*([self._packing(prompt)] if packed else []), self._answered(prompt)]
        except NotFiniteError as error:
            return [PartCheck(f"answer, {self._shown}", False, f"{error.failed} ({error.given})")]

    def _other_prompt(self, prompt: Prompt) -> PartCheck:
        expected, actual = self._answer.prompt_ids, prompt.input_ids
        shorter = min(len(expected), len(actual))
        different = np.flatnonzero(expected[:shorter] != actual[:shorter])
        first = int(different[0]) if len(different) else shorter
        words = f"{len(actual)} tokens for {len(expected)}, the first other one at {first}"
        return PartCheck(f"prompt, {self._shown}", False, words, {"first_other": first})

    def _packing(self, prompt: Prompt) -> PartCheck:
        """Do the pictures' embeddings stand in the prompt as they should?"""
        features = self._answerer.encoder.encode(prompt.visuals)
        embeds = self._answerer.generator.embeds(prompt, features)  # [T, D]
        actual = embeds[self._answer.prompt_ids == self._bundle.manifest.decoder.image_token_id]  # [n, D]
        if self._answer.question.as_one:
            name, sample = "tile packing", self._golden.packing
            compared = agreement(
                name, sample.tokens, actual[sample.positions], Tolerance.of_relative_error(self._moved())
            )
        else:
            name = f"places of the visual tokens, {self._shown}"
            expected = np.concatenate(
                [rows for index in self._answer.question.pictures for rows in self._tokens(index)]
            )
            compared = agreement(name, expected, actual, self._here.allowed)
        return PartCheck(name, compared.within(), compared.numbers(), compared.to_dict())

    def _tokens(self, picture: int) -> list[np.ndarray]:
        """The tokens of a picture of one tile, and the newline where the model's family ends it in one: ``[n, D]``."""
        ends = layout_rules(self._bundle.manifest.vision.token_layout).newline_after_picture
        return [self._here.features[picture], *([self._golden.newline[None]] if ends else [])]

    def _answered(self, prompt: Prompt) -> PartCheck:
        forced = ForcedAnswer(self._answer.token_ids, self._answer.logit_ids)
        self._answerer.generate(
            prompt, max_new_tokens=len(self._answer.token_ids), repetition_penalty=1.0, logits_processor=forced
        )
        allowed = DECODER_ERROR[self._bundle.manifest.decoder.precision]
        if self._answer.question.pictures:
            allowed += self._moved()
        compared = check_logits(self._answer, np.stack(forced.logits), forced.chosen, allowed)
        text = self._answerer.prompter.decode(self._answer.token_ids)
        return compared.as_part(f"answer, {self._shown} ({text!r})")

    def _moved(self) -> float:
        """The relative error of a picture's embeddings that is allowed, or is there and judged by itself."""
        return max(relative_error_of(tolerance(self._bundle)), self._here.error)


def relative_error_of(allowed: Tolerance) -> float:
    """The relative error that a tolerance's cosine just meets; see :meth:`Tolerance.of_relative_error`."""
    return float(np.sqrt(2 * max(0.0, 1 - allowed.cosine)))
