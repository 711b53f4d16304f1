"""From a bundle to an answer: encode the pictures, place them in the prompt, generate.

::

    bundle = open_bundle(folder)                    # verified
    answerer = Answerer(bundle)
    answer = answerer.answer(["cat.png"], "What is this?", on_text=lambda text: print(text, end=""))
    faster = answerer.at("1/4")                     # of a bundle of several depths, over the same language model

Several threads may share an answerer: it answers one prompt, or one batch, at a time, and the others wait.
A conversation over several turns is a :class:`~laco_engines.chat.Chat`.
"""

from __future__ import annotations

import copy
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import islice

import numpy as np

from laco_export.bundle import Bundle
from laco_export.errors import UsageError
from laco_export.quiet import quiet_libraries

from .answer import Answer, StepScore, Timings
from .generation.generator import TextGenerator, draw_seed
from .generation.logits_processors import BestTwo, LogitsProcessor
from .generation.options import GenerationOptions
from .generation.prefix_cache import PrefixCache
from .generation.text_runtime import open_text_runtime
from .picture_encoder import PictureEncoder, read_newline
from .prompts.prompter import Prompt, Prompter
from .prompts.visuals import Picture, Visual
from .runtimes import WITH_PROVIDERS, open_runtime


@dataclass
class _Watch:
    """When answering began, and the seconds of it that went into opening a graph and into encoding."""

    start: float = field(default_factory=lambda: time.perf_counter())
    load_s: float = 0.0
    encode_s: float = 0.0


class Answerer:
    """A loaded bundle, at one of its depths; :meth:`at` gives it at another.

    Args:
        bundle: a verified bundle.
        at: the depth to answer at, of a bundle of several; default: its first.
        prompter: where one was made already for this bundle, at this depth.
        runtime: a name of :data:`laco_engines.runtimes.RUNTIMES`; default: the best that is there.
        text_runtime: a name of :data:`laco_engines.generation.text_runtime.TEXT_RUNTIMES`; default: the best that is
            there.
        provider: a name of :data:`laco_engines.providers.PROVIDERS` for the language model, and for the vision tower
            too unless ``runtime`` says otherwise; default: the best that is there.
        prompt_lookup: a mode of :attr:`GenerationOptions.prompt_lookup` that answers will ask for: what it needs to
            know of this machine is measured now, and not with the first answer.
        threads: CPU threads; default: the cores that this process may use.

    Raises:
        BundleError: the bundle has no language model, or a part of it cannot be loaded.
        DepthError: it does not carry the depth.
        UsageError: the language model has no prompt lookup in this mode.
        RuntimeMissingError: no runtime for the vision tower.
        TextRuntimeMissingError: the text runtime asked for is not installed.
        ProviderMissingError: the provider asked for is not installed or does not start.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        at: str | None = None,
        prompter: Prompter | None = None,
        runtime: str | None = None,
        text_runtime: str | None = None,
        provider: str | None = None,
        threads: int | None = None,
        prompt_lookup: str | None = None,
    ):
        start = time.perf_counter()
        self._whole = bundle
        self._tower_options = {
            "name": runtime,
            "threads": threads,
            "provider": provider if runtime in (None, WITH_PROVIDERS) else None,
        }
        self._at_depths: dict[str, Answerer] = {}
        self._one_at_a_time, self._one_opens = threading.Lock(), threading.Lock()
        # The tower first: a runtime that is not there is reported before Optimum is imported.
        self._open_tower(bundle.at(at), prompter or Prompter(bundle.at(at)))
        with quiet_libraries():
            self.text = open_text_runtime(
                bundle, name=text_runtime, threads=threads, provider=provider, prompt_lookup=prompt_lookup
            )
        self._generate_from(PrefixCache())
        self.load_ms = 1000 * (time.perf_counter() - start)

    def _open_tower(self, bundle: Bundle, prompter: Prompter) -> None:
        """Load the vision tower of a bundle of one depth."""
        self.bundle, self.prompter = bundle, prompter
        with quiet_libraries():
            self.vision = open_runtime(bundle, **self._tower_options)
        self.encoder = PictureEncoder(self.vision, read_newline(bundle))
        self._at_depths[self.depth] = self

    def _generate_from(self, cache: PrefixCache) -> None:
        several = len(self._whole.depths) > 1
        self.generator = TextGenerator(self.text, self.prompter, cache, self.depth if several else None)

    @property
    def depth(self) -> str:
        """The depth that it answers at: ``1/2``, or ``full`` where nothing is merged."""
        return self.bundle.depths[0]

    def at(self, depth: str | None) -> Answerer:
        """The same loaded bundle at another depth that it carries; None takes the first.

        The language model and what is kept of earlier prompts are shared; the depth's vision tower is opened when it is
        first asked for. Prompts are prepared by the ``prompter`` of the answerer that answers them.

        Raises:
            DepthError: the bundle does not carry it.
            BundleError: its tower cannot be loaded.
        """
        bundle = self._whole.at(depth)
        with self._one_opens:
            if bundle.depths[0] not in self._at_depths:
                self._opened_at(bundle)
            return self._at_depths[bundle.depths[0]]

    def _opened_at(self, bundle: Bundle) -> None:
        start = time.perf_counter()
        other = copy.copy(self)
        other._open_tower(bundle, self.prompter.at_depth(bundle))
        other._generate_from(self.generator.cache)
        other.load_ms = 1000 * (time.perf_counter() - start)

    def let_go_of_tower(self) -> None:
        """Free the vision tower of this depth, at which no more is answered until :meth:`at` has opened it again."""
        with self._one_at_a_time, self._one_opens:
            self._at_depths.pop(self.depth, None)
            self.vision = self.encoder = None

    @property
    def decoder(self):
        """The text runtime's own object: Optimum's ``ORTModelForCausalLM``, or a
        :class:`~laco_engines.generation.lean_decoder.LeanDecoder`."""
        return self.text.decoder

    def answer(
        self,
        pictures: Sequence[Picture],
        question: str,
        *,
        on_text: Callable[[str], None] | None = None,
        output_scores: bool = False,
        prepare: dict | None = None,
        **options,
    ) -> Answer:
        """:meth:`Prompter.prepare` with the further arguments ``prepare``, then :meth:`generate`."""
        prompt = self.prompter.prepare(pictures, question, **prepare or {})
        return self.generate(prompt, on_text=on_text, output_scores=output_scores, **options)

    def generate(
        self,
        prompt: Prompt,
        options: GenerationOptions | None = None,
        *,
        on_text: Callable[[str], None] | None = None,
        output_scores: bool = False,
        cancelled: Callable[[], bool] | None = None,
        logits_processor: LogitsProcessor | None = None,
        **fields,
    ) -> Answer:
        """Answer a prepared prompt, beginning where the KV cache of an earlier one leaves off.

        Args:
            options: how; or give :class:`GenerationOptions`' ``fields`` themselves.
            on_text: called with each piece of text as it comes, from the thread that generates.
            output_scores: fill :attr:`Answer.scores`.
            cancelled: asked after each token; where it says True the answer ends with what there is.
            logits_processor: sees each step's logits, numpy ``[1, V]``, and may give others; on Optimum one of
                transformers' will do too.

        Raises:
            UsageError: an option outside what it may be, or a logits processor that the text runtime cannot call.
        """
        self._check_prepared(prompt)
        options = _with_seed(_one_of(options, fields))
        best_two = BestTwo() if output_scores else None
        processors = [each for each in (best_two, logits_processor) if each is not None]
        show = (lambda index, text: on_text(text)) if on_text else None
        with self._one_at_a_time:
            watch = _Watch()
            prefix = self.generator.cached_prefix(prompt)
            held = 0 if prefix is None else prefix.get_seq_length()
            features = self._encode(_visuals_past(prompt, held), watch)
            (row,) = self.generator.rows([prompt], options, show)
            self.generator.generate_one(
                prompt, features, row, options, prefix=prefix, processors=processors, cancelled=cancelled
            )
        scores = [StepScore(*first, *second) for first, second in best_two.steps] if best_two else None
        return self._answer(prompt, row, options, prompt.preprocess_ms, watch, scores, held)

    def generate_batch(
        self,
        prompts: Sequence[Prompt],
        options: GenerationOptions | None = None,
        *,
        on_text: Callable[[int, str], None] | None = None,
        cancelled: Callable[[], bool] | None = None,
        **fields,
    ) -> list[Answer]:
        """Answer several prompts at once, each as :meth:`generate` would alone.

        Sampled answers are the exception: the rows of a batch draw from one random generator in turn, so they depend on
        their neighbours. KV caches of earlier prompts are neither used nor kept, and all answers end where the longest
        prompt's context does.

        Args:
            on_text: called with a prompt's index and each piece of its answer.

        Raises:
            UsageError: no prompts, or an option outside what it may be.
        """
        if not prompts:
            raise UsageError("a batch needs at least one prompt")
        self._check_prepared(*prompts)
        options = _with_seed(_one_of(options, fields))
        with self._one_at_a_time:
            watch = _Watch()
            features = self._encode([visual for prompt in prompts for visual in prompt.visuals], watch)
            rows = self.generator.rows(prompts, options, on_text)
            remaining = iter(features)
            by_prompt = [list(islice(remaining, len(prompt.visuals))) for prompt in prompts]
            self.generator.generate_batch(prompts, by_prompt, rows, options, cancelled=cancelled)
        preprocess_ms = sum(prompt.preprocess_ms for prompt in prompts)
        return [
            self._answer(prompt, row, options, preprocess_ms, watch) for prompt, row in zip(prompts, rows, strict=True)
        ]

    def _check_prepared(self, *prompts: Prompt) -> None:
        grid = self.bundle.manifest.vision.token_grid
        for prompt in prompts:
            if prompt.visuals and prompt.token_grid != grid:
                raise UsageError(
                    "the prompt was prepared for a depth that leaves a picture other tokens",
                    given=f"a grid of {prompt.token_grid}",
                    allowed=f"{grid}, of depth {self.depth}",
                    todo="prepare it with the prompter of the answerer that answers it",
                )

    def forget(self, *, pictures: bool = False) -> None:
        """Free the KV caches of earlier prompts, at whatever depth.

        Args:
            pictures: this depth's embeddings of pictures too, so that the next answer takes what it would take first.
        """
        with self._one_at_a_time:
            self.generator.cache.clear()
            if pictures:
                self.encoder.forget()

    def _encode(self, visuals: Sequence[Visual], watch: _Watch) -> list[np.ndarray]:
        """The visuals' embeddings."""
        before = time.perf_counter()
        self.encoder.prepare(visuals)
        loaded = time.perf_counter()
        features = self.encoder.encode(visuals)
        watch.load_s, watch.encode_s = loaded - before, time.perf_counter() - loaded
        return features

    def _answer(self, prompt, row, options, preprocess_ms, watch: _Watch, scores=None, cached_tokens=0) -> Answer:
        decode_s = row.times[-1] - row.times[0]
        timings = Timings(
            load_ms=self.load_ms + 1000 * watch.load_s,
            preprocess_ms=preprocess_ms,
            encode_ms=1000 * watch.encode_s,
            prefill_ms=1000 * (row.times[0] - watch.start - watch.load_s - watch.encode_s),
            decode_tokens_per_s=(len(row.times) - 1) / decode_s if len(row.times) > 1 else None,
            decode_tokens_per_pass=(len(row.times) - 1) / row.passes if row.passes else None,
        )
        return Answer(
            text=row.text(),
            token_ids=row.token_ids,
            prompt_tokens=len(prompt.input_ids),
            finish=row.finish or "cancelled",
            timings=timings,
            scores=scores,
            cached_tokens=cached_tokens,
            seed=options.seed if options.sampled else None,
            stopped_by=row.stopped_by,
            omitted=prompt.omitted,
        )


def _one_of(options: GenerationOptions | None, fields: dict) -> GenerationOptions:
    if options is not None and fields:
        raise TypeError("give either GenerationOptions or its fields")
    return options or GenerationOptions(**fields)


def _with_seed(options: GenerationOptions) -> GenerationOptions:
    return options.with_seed(draw_seed()) if options.sampled and options.seed is None else options


def _visuals_past(prompt: Prompt, held: int) -> list[Visual]:
    """The visuals that have a position past the first ``held``."""
    ends = np.cumsum([len(visual) for visual in prompt.visuals])  # in image tokens
    tokens_held = int((prompt.image_positions < held).sum())
    return [visual for visual, end in zip(prompt.visuals, ends) if end > tokens_held]
