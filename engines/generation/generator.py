"""Text from prompts by transformers' ``generate`` on the decoder, over what a KV cache holds already.

No sampling loop of our own: logits processors, sampling and stopping criteria are transformers'. ``generate`` is given
the whole prompt as ids (for a repetition penalty), and the embeddings of the positions that no cache holds.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import contextmanager

import numpy as np
import torch
from transformers import LogitsProcessor

from laco_export.bundle import Decoder
from laco_export.quiet import quiet_libraries

from ..prompts.prompter import Prompt, Prompter
from .decoder import EmbedsDecoder
from .kv_cache import KVCache
from .options import GenerationOptions
from .prefix_cache import PrefixCache
from .streaming import FiniteLogits, RowsEnded, RowStreamer, RowText


class TextGenerator:
    """Generates answers to prompts whose pictures are encoded; not safe for several threads.

    Args:
        decoder: the loaded language model.
        prompter: of the same bundle.
        cache: where single prompts' KV caches are kept.
    """

    def __init__(self, decoder: EmbedsDecoder, prompter: Prompter, cache: PrefixCache):
        self.decoder, self.cache = decoder, cache
        self._prompter = prompter
        self._manifest: Decoder = prompter.decoder

    def cached_prefix(self, prompt: Prompt) -> KVCache | None:
        """What earlier answers left of this prompt's beginning; to be given to :meth:`generate_one`."""
        return self.cache.take(prompt.position_keys)

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
        prefix: KVCache | None,
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
        ids = torch.from_numpy(prompt.input_ids)[None]  # [1, T]
        held = 0 if prefix is None else prefix.get_seq_length()
        embeds = self.embeds(prompt, features, held)  # [1, T - held, D]
        output = self._generate(
            ids,
            embeds,
            torch.ones_like(ids),
            [row],
            options,
            list(processors),
            cancelled,
            past_key_values=prefix,
        )
        answered = np.concatenate([prompt.position_keys, np.asarray(row.token_ids, np.int64)])
        self.cache.put(answered, output.past_key_values)

    def generate_batch(
        self,
        prompts: Sequence[Prompt],
        features: Sequence[Sequence[np.ndarray]],
        rows: Sequence[RowText],
        options: GenerationOptions,
        *,
        cancelled: Callable[[], bool] | None = None,
    ) -> None:
        """Answer several prompts at once, padded on the left; no KV cache is used or kept."""
        longest = max(len(prompt.input_ids) for prompt in prompts)
        ids = torch.empty((len(prompts), longest), dtype=torch.long)
        mask = torch.zeros_like(ids)
        embeds = torch.zeros((len(prompts), longest, self._manifest.hidden_size))
        for index, (prompt, visuals) in enumerate(zip(prompts, features, strict=True)):
            start = longest - len(prompt.input_ids)
            # The padding is not attended to, but a repetition penalty sees it: a token that the prompt holds anyway.
            ids[index, :start] = int(prompt.input_ids[0])
            ids[index, start:] = torch.from_numpy(prompt.input_ids)
            mask[index, start:] = 1
            embeds[index, start:] = self.embeds(prompt, visuals)[0]
        self._generate(ids, embeds, mask, rows, options, [], cancelled)

    def embeds(self, prompt: Prompt, features: Sequence[np.ndarray], held: int = 0) -> torch.Tensor:
        """A prompt's input embeddings from position ``held`` on, its pictures' in their places: float32
        ``[1, T - held, D]``; ``features`` as :meth:`generate_one` takes them."""
        embeds = self.decoder.embed(torch.from_numpy(prompt.input_ids[held:])[None])
        positions = prompt.image_positions[prompt.image_positions >= held] - held
        if len(positions):
            # Of a picture that the cache holds in part, the rest stands here.
            rest = np.concatenate(features)[-len(positions) :]  # [n, D]
            embeds[0, torch.from_numpy(positions)] = torch.from_numpy(rest).to(embeds)
        return embeds

    def _generate(self, ids, embeds, mask, rows, options, processors, cancelled, past_key_values=None):
        tensors = {"input_ids": ids, "inputs_embeds": embeds, "attention_mask": mask}
        tensors = {name: tensor.to(self.decoder.device) for name, tensor in tensors.items()}
        with torch.inference_mode(), quiet_libraries(), _seeded(options):
            return self.decoder.generate(
                **tensors,
                past_key_values=past_key_values,
                **options.to_generate(),
                max_new_tokens=rows[0].limit,
                eos_token_id=sorted(rows[0].end_tokens),
                streamer=RowStreamer(rows),
                logits_processor=[FiniteLogits(), *processors],
                stopping_criteria=[RowsEnded(rows, cancelled)],
                return_dict_in_generate=True,
            )


def draw_seed() -> int:
    """A seed from the system's randomness; torch's own first seed is the same in each process."""
    return int.from_bytes(os.urandom(4), "little")


@contextmanager
def _seeded(options: GenerationOptions):
    """Sample as ``torch.manual_seed(options.seed)`` would have it, and leave torch's generator as it was."""
    if not options.sampled:
        yield
        return
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(options.seed)
        yield
