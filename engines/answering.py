"""From a bundle to an answer: encode the pictures, place them in the prompt, generate.

::

    bundle = open_bundle(folder)                    # verified
    answerer = Answerer(bundle)
    answer = answerer.answer(["cat.png"], "What is this?", on_text=lambda text: print(text, end=""))

Greedy, one prompt at a time; sampling, batches and chats are not covered.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import numpy as np

from laco_export.bundle import Bundle
from laco_export.errors import UsageError
from laco_export.preprocessing import MAX_PIXELS
from laco_export.quiet import quiet_libraries
from laco_export.tiling import pack_tokens

from .prompt import Picture, Prompt, Prompter
from .runtimes import open_runtime

MAX_NEW_TOKENS = 128


@dataclass(frozen=True)
class Timings:
    """Where the time went; wall-clock, without any warm-up.

    Attributes:
        load_ms: opening both models, with the import of their libraries.
        preprocess_ms: reading and resizing the pictures, tokenising.
        encode_ms: the vision tower, all pictures.
        prefill_ms: from the embedding lookup until the first token is chosen.
        decode_tokens_per_s: of the tokens after the first; None where there is none.
    """

    load_ms: float
    preprocess_ms: float
    encode_ms: float
    prefill_ms: float
    decode_tokens_per_s: float | None


@dataclass(frozen=True)
class StepScore:
    """The two best tokens of one step: what was chosen, what came next, and their logits' difference."""

    token: int
    logit: float
    runner_up: int
    runner_up_logit: float

    @property
    def margin(self) -> float:
        return self.logit - self.runner_up_logit


@dataclass(frozen=True)
class Answer:
    """An answer.

    Attributes:
        token_ids: the generated tokens, the end token included.
        prompt_tokens: length of the prompt, visual embeddings included.
        finish: ``stop`` (the model ended) or ``length`` (``max_new_tokens`` or the context did).
        scores: one entry a token, where asked for.
    """

    text: str
    token_ids: list[int]
    prompt_tokens: int
    finish: str
    timings: Timings
    scores: list[StepScore] | None = None

    def to_dict(self) -> dict:
        """For ``--json``."""
        return {**asdict(self), "tokens": len(self.token_ids)}


class Answerer:
    """A loaded bundle.

    Args:
        bundle: a verified bundle.
        prompter: where one was made already for this bundle.
        runtime: a name of :data:`laco_engines.runtimes.RUNTIMES`; default: the best that is there.
        threads: CPU threads; default: the cores that this process may use.

    Raises:
        BundleError: the bundle has no language model, or a part of it cannot be loaded.
        RuntimeMissingError: no runtime for the vision tower.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        prompter: Prompter | None = None,
        runtime: str | None = None,
        threads: int | None = None,
    ):
        start = time.perf_counter()
        self.bundle = bundle
        self.prompter = prompter or Prompter(bundle)
        newline = bundle.manifest.vision.image_newline
        self.newline = None if newline is None else np.load(bundle.file(newline))  # [D]
        with quiet_libraries():
            from .decoder import open_decoder

            self.vision = open_runtime(bundle, name=runtime, threads=threads)
            self.decoder = open_decoder(bundle, threads=threads)
        self.load_ms = 1000 * (time.perf_counter() - start)

    def answer(
        self,
        pictures: Sequence[Picture],
        question: str,
        *,
        max_pixels: int = MAX_PIXELS,
        max_new_tokens: int = MAX_NEW_TOKENS,
        on_text: Callable[[str], None] | None = None,
        output_scores: bool = False,
    ) -> Answer:
        """:meth:`Prompter.prepare`, then :meth:`generate`."""
        prompt = self.prompter.prepare(pictures, question, max_pixels=max_pixels)
        return self.generate(prompt, max_new_tokens=max_new_tokens, on_text=on_text, output_scores=output_scores)

    def generate(
        self,
        prompt: Prompt,
        *,
        max_new_tokens: int = MAX_NEW_TOKENS,
        on_text: Callable[[str], None] | None = None,
        output_scores: bool = False,
    ) -> Answer:
        """Answer a prepared prompt greedily.

        Args:
            max_new_tokens: at most so many; fewer where the model's context ends.
            on_text: called with each piece of text as it comes.
            output_scores: fill :attr:`Answer.scores`.

        Raises:
            UsageError: ``max_new_tokens`` is below 1.
        """
        if max_new_tokens < 1:
            raise UsageError("--max-new-tokens must be at least 1", given=max_new_tokens)
        from .streaming import BestTwo, TimedTextStreamer

        start = time.perf_counter()
        self.vision.prepare(len(prompt.pixel_values))
        self.load_ms += 1000 * (time.perf_counter() - start)
        start = time.perf_counter()
        features = None
        if len(prompt.pixel_values):
            tiles = self.vision.encode(prompt.pixel_values)  # [tiles, tokens, D]
            features = pack_tokens(tiles, prompt.layouts, self.newline)  # [n, D]
        encoded = time.perf_counter()
        streamer, best_two = TimedTextStreamer(self.prompter.tokenizer, on_text), BestTwo()
        room = self.bundle.manifest.decoder.context_length - len(prompt.input_ids)
        with quiet_libraries():
            self._run(prompt.input_ids, features, min(max_new_tokens, room), streamer, [best_two] * output_scores)
        times, tokens = streamer.times, streamer.token_ids
        decode_s = times[-1] - times[0]
        timings = Timings(
            load_ms=self.load_ms,
            preprocess_ms=prompt.preprocess_ms,
            encode_ms=1000 * (encoded - start),
            prefill_ms=1000 * (times[0] - encoded),
            decode_tokens_per_s=(len(tokens) - 1) / decode_s if len(tokens) > 1 else None,
        )
        ended = tokens[-1] in self.bundle.manifest.decoder.eos_token_ids
        scores = [StepScore(*first, *second) for first, second in best_two.steps] if output_scores else None
        return Answer(
            self.prompter.decode(tokens), tokens, len(prompt.input_ids), "stop" if ended else "length", timings, scores
        )

    def _run(self, input_ids: np.ndarray, features: np.ndarray | None, max_new_tokens, streamer, processors) -> None:
        import torch

        ids = torch.from_numpy(input_ids)[None]  # [1, T]
        embeds = self.decoder.embed(ids)  # [1, T, D]
        if features is not None:
            is_image = ids == self.bundle.manifest.decoder.image_token_id  # [1, T]
            embeds[is_image] = torch.from_numpy(features)  # [n, D], in reading order
        with torch.inference_mode():
            self.decoder.generate(
                input_ids=ids,
                inputs_embeds=embeds,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=max_new_tokens,
                eos_token_id=self.bundle.manifest.decoder.eos_token_ids,
                streamer=streamer,
                logits_processor=processors,
                # Greedy whatever generation_config.json says (Qwen's published ones sample).
                do_sample=False,
                num_beams=1,
                temperature=None,
                top_p=None,
                top_k=None,
            )
