"""What a language model, the reference's or the bundle's, says of visual features: the reference's answer, and how
likely it is to either.

A vocabulary of which some tokens have no row gives their logits as -inf, so that it can be laid over either model's
logits: with it, the reference may not say what the bundle cannot.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from laco_export.bundle import Bundle

from ..generation.options import GenerationOptions
from ..generation.streaming import RowText
from ..generation.text_runtime import EmbeddedPrompt, TextRuntime, open_text_runtime
from ..prompts.prompter import Prompt, Prompter
from .losses import Loss, answer_loss, logprobs_of


@dataclass(frozen=True)
class ExpectedAnswer:
    """The reference's greedy answer to a question, on its own features.

    Attributes:
        prompt: as either model reads it.
        token_ids: int64 ``[A]``, the end token included.
        logprobs: float64 ``[A]``: the reference's, of its own tokens.
    """

    prompt: Prompt
    token_ids: np.ndarray
    logprobs: np.ndarray


class SwitchedAnswers:
    """Two language models of one checkpoint.

    Args:
        reference, bundle: verified, with one tokenizer.
        prompter: of either.
        text_runtime: by name; default: the best that is here.
        threads: of the CPU.
        max_new_tokens: the longest answer.

    Raises:
        BundleError, TextRuntimeMissingError: one cannot be loaded.
    """

    def __init__(
        self,
        reference: Bundle,
        bundle: Bundle,
        prompter: Prompter,
        *,
        text_runtime: str | None = None,
        threads: int | None = None,
        max_new_tokens: int = 64,
    ):
        self._prompter, self._most = prompter, max_new_tokens
        models = [open_text_runtime(reference, name=text_runtime, threads=threads)]
        is_one = _decoder_hashes(reference) == _decoder_hashes(bundle)
        models.append(models[0] if is_one else open_text_runtime(bundle, name=text_runtime, threads=threads))
        self._models: tuple[TextRuntime, TextRuntime] = tuple(models)

    @property
    def is_one(self) -> bool:
        """Both have the same language model, byte by byte."""
        return self._models[0] is self._models[1]

    @property
    def runtime(self) -> str:
        """What runs the bundle's, for people."""
        return self._models[True].name

    @cached_property
    def is_one_vocabulary(self) -> bool:
        """The same tokens have rows in both."""
        return bool(np.array_equal(*self._left_out))

    def reference_answer(self, prompt: Prompt, features: Sequence[np.ndarray]) -> ExpectedAnswer:
        """The reference's answer on its ``features``, float32 ``[tokens, D]`` of each visual.

        Raises:
            NotFiniteError: its logits are inf or NaN.
        """
        token_ids = self._generated(False, prompt, features)
        answer = ExpectedAnswer(prompt, token_ids, np.zeros(0))
        logits = self._logits(answer, features, is_bundles=False)
        return ExpectedAnswer(prompt, token_ids, logprobs_of(logits, token_ids))

    def bundles_text(self, prompt: Prompt, features: Sequence[np.ndarray]) -> str:
        """The bundle's own answer on ``features``; empty where they are inf or NaN."""
        return self.text_of(self._generated(True, prompt, features)) if _finite(features) else ""

    def text_of(self, token_ids: Sequence[int]) -> str:
        return self._prompter.decode(token_ids).strip()

    def loss(
        self,
        answer: ExpectedAnswer,
        features: Sequence[np.ndarray],
        squared_error: float,
        *,
        model: bool,
        vocabulary: bool,
    ) -> Loss:
        """What ``answer`` lost on other features.

        Args:
            features: float32 ``[tokens, D]`` of each visual; squared_error: of them all.
            model, vocabulary: whether the bundle's is taken.
        """
        if _finite(features):
            logits = self._switched_logits(answer, features, model=model, vocabulary=vocabulary)
        else:
            logits = np.full((len(answer.token_ids), self._prompter.decoder.vocab_size), np.nan, np.float32)
        return answer_loss(logits, answer.token_ids, answer.logprobs, squared_error)

    def _switched_logits(
        self, answer: ExpectedAnswer, features: Sequence[np.ndarray], *, model: bool, vocabulary: bool
    ) -> np.ndarray:
        """float32 ``[A, V]``. A token that the model has no row for, and the vocabulary has, takes the other model's
        logit."""
        logits = self._logits(answer, features, is_bundles=model)
        if vocabulary == model or self.is_one_vocabulary:
            return logits
        logits = np.where(np.isneginf(logits), self._logits(answer, features, is_bundles=vocabulary), logits)
        logits[:, self._left_out[vocabulary]] = -np.inf
        return logits

    @cached_property
    def _left_out(self) -> tuple[np.ndarray, np.ndarray]:
        """Of the reference and of the bundle: which tokens have no logit, bool ``[V]``."""
        steps = (model.logits(model.embed(np.zeros(1, np.int64)), 1) for model in self._models)
        return tuple(np.isneginf(logits[0]) for logits in steps)

    def _generated(self, is_bundles: bool, prompt: Prompt, features: Sequence[np.ndarray]) -> np.ndarray:
        decoder = self._prompter.decoder
        room = decoder.context_length - len(prompt.input_ids)
        row = RowText(self._prompter.tokenizer, end_tokens=decoder.eos_token_ids, limit=max(1, min(self._most, room)))
        model = self._models[is_bundles]
        embedded = EmbeddedPrompt(prompt.input_ids, _embeds(model, prompt, prompt.input_ids, features))
        options = GenerationOptions(max_new_tokens=self._most, repetition_penalty=1.0)
        model.generate([embedded], [row], options)
        return np.asarray(row.token_ids, np.int64)

    def _logits(self, answer: ExpectedAnswer, features: Sequence[np.ndarray], *, is_bundles: bool) -> np.ndarray:
        """float32 ``[A, V]``: of each of the answer's tokens, behind those before it."""
        ids = np.concatenate([answer.prompt.input_ids, answer.token_ids[:-1]])
        model = self._models[is_bundles]
        logits = model.logits(_embeds(model, answer.prompt, ids, features), len(answer.token_ids))
        return np.asarray(logits, np.float32)


def _embeds(model: TextRuntime, prompt: Prompt, ids: np.ndarray, features: Sequence[np.ndarray]) -> np.ndarray:
    embeds = model.embed(ids)  # [T, D]
    if features:
        embeds[prompt.image_positions] = np.concatenate(features)  # [n, D]
    return embeds


def _finite(features: Sequence[np.ndarray]) -> bool:
    return all(np.isfinite(visual).all() for visual in features)


def _decoder_hashes(bundle: Bundle) -> dict[str, str]:
    return {name: bundle.manifest.files[name]["sha256"] for name in bundle.decoder_files()}
