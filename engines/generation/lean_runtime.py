"""The lean text runtime: a decoding loop over ONNX Runtime, numpy and tokenizers, without PyTorch and transformers.

Greedily it chooses the tokens that Optimum's path chooses: the same graph, fed with the same numbers. What it samples
has the same distribution and other random numbers. Each row of a batch draws from a generator of its own, so that its
answer is the one that it would get alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np

from laco_export.bundle import Bundle
from laco_export.errors import UsageError

from ..providers import runtime_title
from .drafted_steps import DraftedSteps
from .language_files import read_generation_fields
from .lean_cache import OrtKVCache
from .lean_decoder import open_lean_decoder
from .logits_processors import CountPenalty, FiniteLogits, LogitsProcessor, count_penalties
from .options import GenerationOptions
from .pass_costs import PassCosts, measure_pass_costs
from .sampling import SamplingParameters, TokenChooser
from .streaming import RowText
from .text_runtime import EmbeddedPrompt

MAX_ROUNDING = 1e-3
"""Up to such differences between a pass's logits and a step's the tokens without drafts are promised. In FP32 it is
0.00005 on SmolLM2-135M; where activations are rounded to 8 bits, 1 and more: every sixtieth token may be another."""


class LeanText:
    """:class:`~laco_engines.generation.text_runtime.TextRuntime` on ONNX Runtime alone; arguments and errors as of
    :func:`~laco_engines.generation.text_runtime.open_text_runtime`."""

    def __init__(self, bundle: Bundle, *, threads: int | None = None, provider: str | None = None):
        self._generation_fields = read_generation_fields(bundle)
        self.decoder = open_lean_decoder(bundle, threads=threads, provider=provider)
        self.session, self.provider = self.decoder.session, self.decoder.provider
        self.name = f"lean on {runtime_title(self.provider)}"
        self.passed_over: tuple[str, ...] = ()

    @cached_property
    def pass_costs(self) -> PassCosts:
        """Of passes over several positions, measured when they are first asked for."""
        return measure_pass_costs(self.decoder)

    def prepare_prompt_lookup(self, mode: str) -> None:
        """See :meth:`TextRuntime.prepare_prompt_lookup`."""
        rounding = self.pass_costs.rounding
        if mode == "exact" and not rounding <= MAX_ROUNDING:  # nor where it is NaN
            raise UsageError(
                "this language model's logits depend on how many positions are read at once, so --prompt-lookup cannot "
                "promise the tokens of an answer without it",
                given=f"logits that differ by up to {rounding:.2g}; int8 and int4 round activations to 8 bits",
                allowed=f"{MAX_ROUNDING:g}",
                todo="take --prompt-lookup close, which chooses by either rounding, or leave it out",
            )

    def embed(self, token_ids: np.ndarray) -> np.ndarray:
        """See :meth:`TextRuntime.embed`."""
        return self.decoder.embed(token_ids)

    def logits(self, embeds: np.ndarray, logits_to_keep: int) -> np.ndarray:
        """See :meth:`TextRuntime.logits`."""
        return self.decoder.prefill([embeds], self.decoder.new_cache(len(embeds)), logits_to_keep)[0]

    def generate(
        self,
        prompts: Sequence[EmbeddedPrompt],
        rows: Sequence[RowText],
        options: GenerationOptions,
        *,
        past: OrtKVCache | None = None,
        processors: Sequence[LogitsProcessor] = (),
        cancelled: Callable[[], bool] | None = None,
    ) -> OrtKVCache:
        """See :meth:`TextRuntime.generate`.

        Raises:
            UsageError: a logits processor is transformers', which takes PyTorch's tensors; or drafts are asked for
                where they cannot be made, or not without changing the answer.
            NotFiniteError: the logits are inf or NaN.
        """
        _refuse_transformers(processors)
        if options.prompt_lookup is not None:
            if len(prompts) > 1:
                raise UsageError("--prompt-lookup answers one question at a time", given=f"a batch of {len(prompts)}")
            self.prepare_prompt_lookup(options.prompt_lookup)
        parameters = SamplingParameters.merged(options, self._generation_fields)
        choosers = [TokenChooser(parameters, p.ids, self.decoder.vocab_size, options.seed) for p in prompts]
        penalties = count_penalties(options)
        processors = [FiniteLogits(), *penalties, *processors]
        cache, logits = self._prefill(prompts, rows[0].limit, past)
        answers = [row.token_ids for row in rows]
        drafted = self._drafted(prompts[0], cache, options, rows[0].limit)
        while True:
            if drafted:
                logits = drafted.decided(logits, lambda logits: _penalised(logits, choosers, penalties, answers))
            for chooser, row_logits in zip(choosers, logits, strict=True):
                chooser.penalise(row_logits)
            for processor in processors:
                logits = processor(answers, logits)
            tokens = [chooser.choose(row_logits) for chooser, row_logits in zip(choosers, logits)]
            now = time.perf_counter()
            for row, token in zip(rows, tokens):
                row.add(token, now)
            goes_on = [row.finish is None for row in rows]
            if (cancelled is not None and cancelled()) or not any(goes_on):
                break
            logits = drafted.step(tokens[0]) if drafted else self.decoder.step(tokens, cache, goes_on)
        if drafted:
            drafted.close()
            rows[0].passes = drafted.passes
        for row in rows:
            row.close()
        return cache

    def _drafted(
        self, prompt: EmbeddedPrompt, cache: OrtKVCache, options: GenerationOptions, limit: int
    ) -> DraftedSteps | None:
        if options.prompt_lookup is None:
            return None
        exact = options.prompt_lookup == "exact"
        return DraftedSteps(self.decoder, cache, prompt.ids, self.pass_costs, most=limit, exact=exact)

    def _prefill(
        self, prompts: Sequence[EmbeddedPrompt], limit: int, past: OrtKVCache | None
    ) -> tuple[OrtKVCache, np.ndarray]:
        """The prompts read: the cache, with room for the answers, and the logits ``[B, V]`` of what comes next."""
        room = max(len(prompt.ids) for prompt in prompts) + limit
        cache = self.decoder.new_cache(room, len(prompts)) if past is None else past
        cache.reserve(room)
        return cache, self.decoder.prefill([prompt.embeds for prompt in prompts], cache)[:, 0]


def _penalised(
    logits: np.ndarray, choosers: Sequence[TokenChooser], penalties: Sequence[CountPenalty], answers: list[list[int]]
) -> np.ndarray:
    """What the options' penalties make of logits ``[B, V]``, which stay as they are."""
    scores = logits.copy()
    for chooser, row_scores in zip(choosers, scores, strict=True):
        chooser.penalise(row_scores)
    for penalty in penalties:
        scores = penalty(answers, scores)
    return scores


def _refuse_transformers(processors: Sequence[LogitsProcessor]) -> None:
    for processor in processors:
        if any(base.__module__.startswith("transformers.") for base in type(processor).__mro__):
            raise UsageError(
                "the lean text runtime takes no logits processors of transformers",
                given=type(processor).__name__,
                allowed="laco_engines.generation.logits_processors.LogitsProcessor, on numpy arrays",
                todo="open the bundle with text_runtime='optimum'",
            )
