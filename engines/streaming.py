"""Text while it is generated, and when each token came."""

from __future__ import annotations

import time
from collections.abc import Callable

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream
from transformers import LogitsProcessor
from transformers.generation.streamers import BaseStreamer


class TimedTextStreamer(BaseStreamer):
    """A transformers streamer for one sequence that hands out text as soon as it is complete characters.

    Attributes:
        token_ids: the new tokens.
        times: ``time.perf_counter()`` at each of them.
    """

    def __init__(self, tokenizer: Tokenizer, on_text: Callable[[str], None] | None = None):
        self.token_ids: list[int] = []
        self.times: list[float] = []
        self._tokenizer = tokenizer
        self._stream = DecodeStream(skip_special_tokens=True)
        self._on_text = on_text
        self._prompt_seen = False

    def put(self, value) -> None:
        """Take the prompt (the first call, skipped) or the next token; transformers calls this."""
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        self.times.append(time.perf_counter())
        token = int(value.reshape(-1)[0])
        self.token_ids.append(token)
        text = self._stream.step(self._tokenizer, token) if self._on_text else None
        if text:
            self._on_text(text)

    def end(self) -> None:
        """Nothing is held back that could still be shown: what is left are bytes of an incomplete character."""


class BestTwo(LogitsProcessor):
    """Records the two best tokens of each step and changes nothing.

    Attributes:
        steps: ``[(token, logit), (token, logit)]`` per step, the better first; of a batch of one.
    """

    def __init__(self):
        self.steps: list[list[tuple[int, float]]] = []

    def __call__(self, input_ids, scores):
        values, tokens = scores[0].topk(2)
        self.steps.append(list(zip(tokens.tolist(), values.tolist())))
        return scores
