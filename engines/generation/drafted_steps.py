"""A decoder's steps, several at a time where what comes next can be guessed.

A pass reads the token that was chosen and the draft behind it at once. Its logits are handed out one step at a time, so
that whoever chooses tokens (with penalties, a sampler, stop strings) does what it does without drafts: each position's
logits are looked at behind the tokens before it. As long as the draft's next token is the one that was chosen, the step
is there already; else the rest of the pass is forgotten, by the length of the KV cache.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .draft_width import DraftWidth
from .lean_cache import OrtKVCache
from .lean_decoder import LeanDecoder
from .pass_costs import PassCosts
from .prompt_lookup import Draft, NgramIndex

NEAR_TIE = 8.0
"""Leads up to so many times the rounding that was measured are decided by single steps. On SmolLM2-135M in FP32, over
384 tokens of real text, a lead differed by 0.5 of that rounding at most."""


class DraftedSteps:
    """The steps of one prompt's answer.

    Args:
        cache: of one row, the prompt read.
        prompt: int64 ``[T]``, its tokens.
        most: positions that the answer may take.
        exact: decide near ties by single steps, so that the tokens are those without drafts.
    """

    def __init__(
        self, decoder: LeanDecoder, cache: OrtKVCache, prompt: np.ndarray, costs: PassCosts, *, most: int, exact: bool
    ):
        self._decoder, self._cache = decoder, cache
        self._tokens = NgramIndex(prompt.tolist())
        self._width = DraftWidth(costs.over_step)
        self._near_tie = NEAR_TIE * costs.rounding if exact else None
        self._draft, self._accepted = Draft(), 0
        self._logits = np.empty((0, decoder.vocab_size), np.float32)
        self._read = self._stepped = cache.lengths[0]  # positions in use; those that single steps wrote
        self._end = self._read + most

    @property
    def passes(self) -> int:
        """Passes of the decoder so far."""
        return self._width.passes

    def step(self, token: int) -> np.ndarray:
        """The logits behind one token more, float32 ``[1, V]``; valid until the next step."""
        expected = self._draft.token_ids[self._accepted : self._accepted + 1]
        self._tokens.add(token)
        self._width.count_step()
        if expected == (token,):
            self._accepted += 1
            self._read += 1
            return self._logits[self._accepted : self._accepted + 1]
        self._judge()
        self._cache.crop(self._read)
        return self._pass(token)

    def decided(self, logits: np.ndarray, scores: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        """The logits, or where their two best are so near that a pass may have changed their order, those of single
        steps.

        Args:
            logits: of :meth:`step`.
            scores: what a token is chosen by, ``[1, V]``, of such logits; its changes are no larger than the logits'.
        """
        if self._near_tie is None or self._stepped == self._read or _lead(scores(logits)[0]) > self._near_tie:
            return logits
        self._judge()
        self._cache.crop(self._stepped)
        for position in range(self._stepped, self._read):
            logits = self._decoder.step([self._tokens[position]], self._cache, [True])
            self._width.spend(1)
        self._stepped = self._read
        return logits

    def close(self) -> None:
        """The answer has ended: what was read behind it is forgotten, and the passes' memory given back (10 MB of
        logits for 16 positions of Qwen2.5's vocabulary), which the cache may outlive by hours."""
        self._cache.crop(self._read)
        for width in self._width.over_step:
            self._cache.bindings.pop(width, None)

    def _pass(self, token: int) -> np.ndarray:
        draft = self._tokens.draft(self._width.longest - 1)
        width = self._width.choose(draft.match, self._end - self._read) if draft.token_ids else 1
        self._width.spend(width)
        self._draft, self._accepted = Draft(draft.token_ids[: width - 1], draft.match), 0
        if width == 1:
            self._logits = self._decoder.step([token], self._cache, [True])
            self._stepped += self._stepped == self._read
        else:
            self._logits = self._decoder.read([token, *self._draft.token_ids], self._cache)
        self._read += 1
        return self._logits[:1]

    def _judge(self) -> None:
        if self._draft.token_ids:
            self._width.judge(self._draft.match, self._accepted, len(self._draft.token_ids))
        self._draft, self._accepted = Draft(), 0


def _lead(scores: np.ndarray) -> float:
    """Of the best of ``[V]`` over the second."""
    best = scores.argmax()
    behind = max(scores[:best].max(initial=-np.inf), scores[best + 1 :].max(initial=-np.inf))
    return float(scores[best] - behind)
