"""A decoder of ``laco-export`` on the text runtimes of ``laco-engine``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from decoder_models import decoder_bundle

from . import scoring


class Lean:
    """The lean text runtime's decoder."""

    def __init__(self, path: Path):
        from laco_engines.generation.lean_decoder import open_lean_decoder

        self._decoder = open_lean_decoder(decoder_bundle(path), threads=1, provider="cpu")

    def generate(self, ids: list[int], count: int, note: Callable[[], None]) -> list[int]:
        cache, answer = self._decoder.new_cache(len(ids) + count), []
        logits = self._decoder.prefill([self._decoder.embed(np.array(ids))], cache)[:, -1]
        while True:
            answer.append(int(logits[0].argmax()))
            note()
            if len(answer) == count:
                return answer
            logits = self._decoder.step(answer[-1:], cache, [True])

    def negative_log_likelihood(self, ids: list[int]) -> float:
        embeds = self._decoder.embed(np.array(ids))
        logits = self._decoder.prefill([embeds], self._decoder.new_cache(len(ids)), len(ids))[0]
        return scoring.negative_log_likelihood(logits, ids)


class Optimum:
    """Optimum's class under transformers' ``generate``."""

    def __init__(self, path: Path):
        import torch

        from laco_engines.generation.decoder import open_decoder

        torch.set_num_threads(1)
        self._decoder = open_decoder(decoder_bundle(path), threads=1, provider="cpu")

    def generate(self, ids: list[int], count: int, note: Callable[[], None]) -> list[int]:
        import torch
        from transformers import GenerationConfig

        config = GenerationConfig(max_new_tokens=count, do_sample=False, pad_token_id=0)
        with torch.inference_mode():
            embeds = self._decoder.embed(torch.tensor([ids]))
            answer = self._decoder.generate(inputs_embeds=embeds, generation_config=config, streamer=_Noted(note))
        return answer[0].tolist()

    def negative_log_likelihood(self, ids: list[int]) -> None:
        return None  # the graph is the lean runtime's


class _Noted:
    """A streamer of transformers that calls ``note`` for each new token."""

    def __init__(self, note: Callable[[], None]):
        self._note = note

    def put(self, tokens) -> None:
        if len(tokens.shape) == 1 and len(tokens):  # the prompt's (none here) are [1, 0]
            self._note()

    def end(self) -> None:
        pass
