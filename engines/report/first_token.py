"""Where the time to the first token goes, part by part, beside the floor under each part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..cost.decoder_cost import decoder_cost
from ..cost.graph_cost import GraphCost, graph_cost
from ..cost.roofline import Floor, floor_on_device, floor_on_host
from ..devices.cuda import present_device
from ..devices.host_peaks import HostPeaks, measure_peaks
from ..devices.profiles import DeviceProfile, device_profile
from ..runtimes.protocol import split_batch
from .asking import AskedSubject


@dataclass(frozen=True)
class AnswerTimes:
    """Medians over the answers of one subject that were not stalled, in milliseconds.

    Attributes:
        first_token_p95_ms: its 95th percentile.
        tokens_per_s: of the tokens after the first of all answers, over the time that they took; None where every
            answer is one token.
        prompt_tokens: the median prompt's, of all answers; tiles: that the tower encoded of the median question.
        counted, stalled: answers; cpu_over_wall: the median CPU time over wall time of those that count.
    """

    preprocess_ms: float
    encode_ms: float
    prefill_ms: float
    first_token_ms: float
    first_token_p95_ms: float
    tokens_per_s: float | None
    prompt_tokens: int
    tiles: int
    counted: int
    stalled: int
    cpu_over_wall: float


def answer_times(asked: AskedSubject) -> AnswerTimes:
    """The times of one subject."""
    timings = [record.answer.timings for record in asked.timed]
    median = lambda name: float(np.median([getattr(timing, name) for timing in timings]))
    return AnswerTimes(
        preprocess_ms=median("preprocess_ms"),
        encode_ms=median("encode_ms"),
        prefill_ms=median("prefill_ms"),
        first_token_ms=median("first_token_ms"),
        first_token_p95_ms=float(np.quantile([timing.first_token_ms for timing in timings], 0.95)),
        tokens_per_s=_tokens_per_s(asked),
        prompt_tokens=round(np.median([record.answer.prompt_tokens for record in asked.answered])),
        tiles=round(np.median([record.tiles for record in asked.answered])),
        counted=len(timings),
        stalled=asked.series.rejected,
        cpu_over_wall=asked.series.cpu_ratio,
    )


def _tokens_per_s(asked: AskedSubject) -> float | None:
    tokens, seconds = 0, 0.0
    for record in asked.timed:
        if rate := record.answer.timings.decode_tokens_per_s:
            tokens += len(record.answer.token_ids) - 1
            seconds += (len(record.answer.token_ids) - 1) / rate
    return tokens / seconds if seconds else None


@dataclass(frozen=True)
class AnswerFloors:
    """The least time of each part that has arithmetic, in milliseconds; None with the reason in ``missing``.

    Attributes:
        encode_ms: of the median question's tiles.
        prefill_ms: of the median prompt; step_ms: of a further token.
        bound: of the three, in words: what makes them so, compute or bandwidth.
    """

    encode_ms: float | None = None
    prefill_ms: float | None = None
    step_ms: float | None = None
    bound: str = ""
    missing: str | None = None


class FloorMeter:
    """Floors on this machine; its peaks are measured when a subject needs them, once."""

    def __init__(self, threads: int):
        self._threads, self._peaks, self._tried = threads, None, False
        self._profile: DeviceProfile | None = device_profile(present_device())

    @property
    def peaks(self) -> HostPeaks | None:
        """This CPU's, where they were needed and could be measured."""
        return self._peaks

    def floors(self, asked: AskedSubject, times: AnswerTimes) -> AnswerFloors:
        """The floors under ``times``."""
        bundle = asked.subject.bundle
        try:
            costs = {graph.batch: graph_cost(bundle.file(graph.file)) for graph in bundle.manifest.vision.graphs}
            decoder = bundle.file(bundle.manifest.decoder.graph)
            passes = [[decoder_cost(decoder, count)] for count in (times.prompt_tokens, 1)]
        except ModuleNotFoundError as error:
            return AnswerFloors(missing=f"no floors: the package {error.name} is not installed")
        encode, reason = self._floor(
            [costs[size] for size in split_batch(times.tiles, list(costs))], asked.tower_on_cpu
        )
        (prefill, other), (step, _) = (self._floor(costs, asked.decoder_on_cpu) for costs in passes)
        parts = {"encode": encode, "prefill": prefill, "step": step}
        words = [f"{name} {floor.bound}" for name, floor in parts.items() if floor is not None]
        values = {f"{name}_ms": None if floor is None else floor.ms for name, floor in parts.items()}
        return AnswerFloors(**values, bound=", ".join(words), missing=reason or other)

    def _floor(self, costs: Sequence[GraphCost], on_host: bool) -> tuple[Floor | None, str | None]:
        if not on_host:
            return floor_on_device(costs, self._profile)
        if not self._tried:
            self._tried = True
            self._peaks = measure_peaks(self._threads)
        return floor_on_host(costs, self._peaks)
