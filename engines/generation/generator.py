"""Text from prompts by a text runtime, over what a KV cache holds already. No torch."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence

import numpy as np

from laco_export.bundle import Decoder

from ..prompts.prompter import Prompt, Prompter
from .logits_processors import LogitsProcessor
from .options import GenerationOptions
from .prefix_cache import PastKeyValues, PrefixCache
from .streaming import RowText
from .text_runtime import EmbeddedPrompt, TextRuntime


class TextGenerator:
    """Generates answers to prompts whose pictures are encoded; not safe for several threads.

    Args:
        text: the loaded language model.
        prompter: of the same bundle.
        cache: where single prompts' KV caches are kept.
        tower: the vision tower's name, where several share the cache: what one makes of a picture is not what another
            does, so that a beginning with a picture is found for the same tower alone.
    """

    def __init__(self, text: TextRuntime, prompter: Prompter, cache: PrefixCache, tower: str | None = None):
        self._text, self.cache = text, cache
        self._prompter = prompter
        self._manifest: Decoder = prompter.decoder
        self._of_tower = 0 if tower is None else _sixty_two_bits(tower)

    def cached_prefix(self, prompt: Prompt) -> PastKeyValues | None:
        """What earlier answers left of this prompt's beginning; to be given to :meth:`generate_one`."""
        return self.cache.take(self._position_keys(prompt))

    def rows(
        self, prompts: Sequence[Prompt], options: GenerationOptions, on_text: Callable[[int, str], None] | None = None
    ) -> list[RowText]:
        """Where the answers will stand, for :meth:`generate_one` or :meth:`generate_batch`.

        Args:
            on_text: called with a prompt's index and each piece of its answer.
        """
        context_left = self._manifest.context_length - max(len(prompt.input_ids) for prompt in prompts)
        special = {text: self._prompter.special_token_id(text) for text in options.stop}
        end_tokens = {*self._manifest.eos_token_ids, *(i for i in special.values() if i is not None)}
        stop = [text for text, token_id in special.items() if token_id is None]
        return [
            RowText(
                self._prompter.tokenizer,
                end_tokens=end_tokens,
                limit=min(options.max_new_tokens, context_left),
                stop=stop,
                on_text=(lambda text, index=index: on_text(index, text)) if on_text else None,
            )
            for index in range(len(prompts))
        ]

    def generate_one(
        self,
        prompt: Prompt,
        features: Sequence[np.ndarray],
        row: RowText,
        options: GenerationOptions,
        *,
        prefix: PastKeyValues | None,
        processors: Sequence[LogitsProcessor] = (),
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        """Answer a prompt into ``row``, and keep its KV cache.

        Args:
            features: float32 ``[len(visual), D]`` of each visual that has a position which ``prefix`` does not hold.
            prefix: of :meth:`cached_prefix`.
            processors: see each step's logits behind the options' own.
            cancelled: asked after each token; the answer ends where it says True.
        """
        embedded = self._embedded(prompt, features, 0 if prefix is None else prefix.get_seq_length())
        past_key_values = self._text.generate(
            [embedded], [row], options, past=prefix, processors=processors, cancelled=cancelled
        )
        answered = np.concatenate([self._position_keys(prompt), np.asarray(row.token_ids, np.int64)])
        self.cache.put(answered, past_key_values)

    def generate_batch(
        self,
        prompts: Sequence[Prompt],
        features: Sequence[Sequence[np.ndarray]],
        rows: Sequence[RowText],
        options: GenerationOptions,
        *,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        """Answer several prompts at once; no KV cache is used or kept."""
        embedded = [self._embedded(prompt, visuals) for prompt, visuals in zip(prompts, features, strict=True)]
        self._text.generate(embedded, rows, options, cancelled=cancelled)

    def embeds(self, prompt: Prompt, features: Sequence[np.ndarray], held: int = 0) -> np.ndarray:
        """A prompt's input embeddings from position ``held`` on, its pictures' in their places: float32
        ``[T - held, D]``; ``features`` as :meth:`generate_one` takes them."""
        embeds = self._text.embed(prompt.input_ids[held:])
        positions = prompt.image_positions[prompt.image_positions >= held] - held
        if len(positions):
            # Of a picture that the cache holds in part, the rest stands here.
            embeds[positions] = np.concatenate(features)[-len(positions) :]  # [n, D]
        return embeds

    def _position_keys(self, prompt: Prompt) -> np.ndarray:
        """:attr:`Prompt.position_keys`, those of pictures told apart by the tower too."""
        keys = prompt.position_keys
        return np.where(keys < 0, keys ^ self._of_tower, keys)  # pictures' are negative, and stay so

    def _embedded(self, prompt: Prompt, features: Sequence[np.ndarray], held: int = 0) -> EmbeddedPrompt:
        return EmbeddedPrompt(prompt.input_ids, self.embeds(prompt, features, held))


def _sixty_two_bits(text: str) -> int:
    digest = hashlib.blake2b(text.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 2


def draw_seed() -> int:
    """A seed from the system's randomness; torch's own first seed is the same in each process."""
    return int.from_bytes(os.urandom(4), "little")
