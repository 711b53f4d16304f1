"""A governor at work in the server: what it is told of the queue, of answers and of what is watched."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from ..answering import Answer, Answerer
from ..devices.watched import WatchedValue
from ..governor import Governor, Moment
from .worker import Job, Worker

_TIMED_RUNS = 2
"""Encodes of each depth before the first request: the first warms up, the second is timed."""


class GovernedDepths:
    """Chooses the depth of requests that name none.

    Args:
        watched: what is read for each choice, with its limits in the order of the governor's rules.
    """

    def __init__(self, governor: Governor, watched: Sequence[WatchedValue] = ()):
        self._governor, self._watched = governor, tuple(watched)

    def prepare(self, answerer: Answerer) -> None:
        """Open the tower of each depth, and time it: the first request that goes down must not wait for that."""
        for depth in self._governor.ladder:
            at_depth = answerer.at(depth)
            shape = (1, *at_depth.bundle.manifest.vision.graphs[0].input.shape[1:])
            for _ in range(_TIMED_RUNS):
                start = time.perf_counter()
                at_depth.vision.encode(np.zeros(shape, np.float32))
                spent_ms = 1000 * (time.perf_counter() - start)
            self._governor.observe(depth, encode_ms=spent_ms)

    def choose(self, job: Job, worker: Worker) -> str:
        """The depth of a job that is about to be queued."""
        now = time.monotonic()
        ahead, running_s = worker.ahead(now)
        moment = Moment(
            at_s=now,
            ahead=ahead,
            running_ms=1000 * running_s,
            waited_ms=1000 * (now - job.created),
            values=tuple(watched.read() for watched in self._watched),
        )
        return self._governor.choose(moment).depth

    def answered(self, job: Job, answer: Answer) -> None:
        """Take in what an answer took."""
        timings, rate = answer.timings, answer.timings.decode_tokens_per_s
        self._governor.observe(
            job.depth,
            encode_ms=timings.encode_ms,
            prefill_ms=timings.prefill_ms,
            decode_ms=0.0 if rate is None else 1000 * (len(answer.token_ids) - 1) / rate,
        )
