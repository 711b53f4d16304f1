"""Where figures come from: what a search asks of a candidate, and this machine, which measures with bench's timer."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Protocol

from laco_export.errors import LacoError
from laco_export.machine import cpu_title, default_threads
from laco_export.timing import STALLED_BELOW

from ..bench.measure import BenchOptions, run_bench
from ..bench.process_memory import MemoryRequest, bundle_memory
from ..bench.results import BenchReport, DecodeResult
from ..devices.cuda import present_device
from ..devices.host_peaks import measure_peaks
from ..doctor import bundle_fit
from .figures import BOUNDED, MEASURED, RECORDED, Figure
from .floors import HostFloors, TextFloor, vision_operations
from .limits import ANSWER, Quantity, TextFigures
from .measurements import MeasuredThing, MeasurementCache, engine_digests
from .space import Candidate, timed_prompt

FLOOR_MARGIN = 0.9
"""Of a floor on this machine that a run is held to be above: the peaks under it are measured, to within a few per
cent."""

BUSY_BELOW = 0.7
"""CPU time over wall time and threads: full-size towers had 0.88 to 0.9 on a shared machine of two cores
(benchmarks/results/bench_by_depth.json)."""


class MeasurementError(LacoError):
    """Something that the plan needs to know could not be measured."""


class Gauge(Protocol):
    """Figures of candidates.

    Attributes:
        pictures: of one question.
        taken: candidates that were measured: runs of the timer.
        busy: those of them that were disturbed.
        costs_nothing: asking does not measure, so that everything may be asked.
    """

    pictures: int
    taken: int
    busy: set[Candidate]
    costs_nothing: bool

    def vision_floor_ms(self, candidate: Candidate) -> float | None:
        """The least time of the vision tower on all pictures of a question, None where it is not known."""
        ...

    def text_floor(self, candidate: Candidate) -> TextFloor | None:
        """The language model's least times."""
        ...

    def operations(self, candidate: Candidate) -> Mapping[str, int]:
        """Of the vision tower on a question's pictures, by the type that is multiplied; empty where not known."""
        ...

    def recorded(self, candidate: Candidate) -> tuple[Figure | None, TextFigures | None]:
        """What is known without measuring: the vision tower's milliseconds, the language model's part."""
        ...

    def measure(self, candidate: Candidate, *, encode: bool, text: bool) -> tuple[Figure | None, TextFigures | None]:
        """The parts that are wanted, measured; another part that came with them may be given too."""
        ...

    def memory(self, candidate: Candidate) -> Figure:
        """Bytes at the peak."""
        ...

    def memory_guess(self, candidate: Candidate) -> Figure:
        """Bytes by arithmetic."""
        ...


@dataclass
class HostGauge:
    """This machine.

    Attributes:
        pictures: of one question.
        runtime, text_runtime: by name; None takes the best.
        repeats, warmup: of each measurement, as ``laco-engine bench`` takes them.
        advance: told what is measured.
        busy: candidates that were measured while the machine did something else too.
    """

    quantity: Quantity
    pictures: int
    runtime: str | None = None
    text_runtime: str | None = None
    repeats: int = 10
    warmup: int = 2
    cache: MeasurementCache = field(default_factory=MeasurementCache)
    advance: Callable[[str], None] = lambda what: None
    floors: HostFloors = field(default_factory=lambda: HostFloors(measure_peaks))
    taken: int = 0
    busy: set[Candidate] = field(default_factory=set)
    costs_nothing = False

    def vision_floor_ms(self, candidate: Candidate) -> float | None:
        floor = self.floors.vision_ms(candidate) if self._on_cpu else None
        return None if floor is None else self._margin(candidate) * floor

    def text_floor(self, candidate: Candidate) -> TextFloor | None:
        floor = self.floors.text(candidate, self.pictures) if self._on_cpu else None
        margin = self._margin(candidate) if floor else 0.0
        return floor and TextFloor(margin * floor.prefill_ms, margin * floor.token_ms)

    def operations(self, candidate: Candidate) -> Mapping[str, int]:
        return vision_operations(candidate)

    def _margin(self, candidate: Candidate) -> float:
        """Less where the processor was busy when its peaks were measured: they are higher then."""
        peaks = self.floors.peaks(candidate.threads)
        return FLOOR_MARGIN * (1.0 if peaks is None else min(1.0, peaks.cpu_share))

    def recorded(self, candidate: Candidate) -> tuple[Figure | None, TextFigures | None]:
        vision = self.cache.read(self._vision_thing(candidate))
        encode = None if vision is None else vision["encode_ms"]
        self._note_busy(candidate, vision or {})
        if encode is None and self._on_cpu and self.runtime in (None, "onnxruntime", "onnxruntime-cpu"):
            encode = calibrated_ms(candidate)
        text = self.cache.read(self._text_thing(candidate)) if self.quantity.needs_text else None
        return (
            None if encode is None else Figure.exact(encode, RECORDED),
            None if text is None else _text_figures(text, RECORDED),
        )

    def measure(self, candidate: Candidate, *, encode: bool, text: bool) -> tuple[Figure | None, TextFigures | None]:
        """One run of the timer, on this candidate alone; the vision tower is always timed."""
        self.advance(f"measuring {candidate}")
        self.taken += 1
        report = self._timed(candidate, with_text=text)
        (encoded,) = report.encode
        figures = {"encode_ms": encoded.p50_ms, "cpu_over_wall": encoded.cpu_over_wall or 1e-3}
        self.cache.write(self._vision_thing(candidate), figures)
        self._note_busy(candidate, figures)
        vision = Figure.exact(encoded.p50_ms, MEASURED)
        if not text:
            return vision, None
        (answered,) = report.decode
        parts = self._parts_of(answered, candidate)
        self.cache.write(self._text_thing(candidate), parts)
        return vision if encode else None, _text_figures(parts, MEASURED)

    def memory(self, candidate: Candidate) -> Figure:
        thing = self._memory_thing(candidate)
        stored = self.cache.read(thing)
        if stored is not None:
            return Figure.exact(stored["bytes"], RECORDED)
        self.advance(f"memory of {candidate}")
        bundle = candidate.model.bundle
        request = MemoryRequest(
            str(bundle.path.absolute()),
            self.runtime,
            candidate.threads,
            candidate.batch,
            self.quantity.needs_text,
            self.text_runtime,
            at=candidate.model.depth,
        )
        with bundle.unchanged():
            answer = bundle_memory(request)
        if "error" in answer:
            raise MeasurementError(f"the memory of {candidate} could not be measured", given=answer["error"])
        used = answer["peak_resident_bytes"] + (answer["device_bytes"] or 0)
        self.cache.write(thing, {"bytes": used})
        return Figure.exact(used, MEASURED)

    def memory_guess(self, candidate: Candidate) -> Figure:
        needed = fitted_bytes(candidate, present_device())
        return Figure(needed, 0.0, math.inf, frozenset({BOUNDED}))

    def _note_busy(self, candidate: Candidate, figures: dict[str, float]) -> None:
        if self._on_cpu and figures.get("cpu_over_wall", candidate.threads) < BUSY_BELOW * candidate.threads:
            self.busy.add(candidate)

    @cached_property
    def _on_cpu(self) -> bool:
        """Whether there is nothing but a CPU here, whose floors are known; a GPU's floor is another."""
        return present_device() is None

    def _timed(self, candidate: Candidate, *, with_text: bool) -> BenchReport:
        options = BenchOptions(
            batches=(candidate.tiles,),
            runtime=self.runtime,
            text_runtime=self.text_runtime,
            repeats=self.repeats,
            warmup=self.warmup,
            threads=candidate.threads,
            llm=with_text,
            new_tokens=self._new_tokens,
            pictures=self.pictures,
            memory=False,
        )
        peaks = self.floors.peaks(candidate.threads) if self._on_cpu else None
        return run_bench([candidate.bundle], options, peaks=peaks)

    def _parts_of(self, answered: DecodeResult, candidate: Candidate) -> dict[str, float]:
        """The language model's parts of timed answers, in milliseconds."""
        rate = answered.decode_tokens_per_s
        if rate is None and self.quantity.kind == ANSWER:
            raise MeasurementError(
                f"{candidate.model.name} ended every answer after its first token",
                todo="plan for the first token: --of first-token",
            )
        rest = answered.first_token_ms - answered.encode_ms - answered.prefill_ms  # medians: may be just below zero
        parts = {"preprocess_ms": max(rest, 1e-3), "prefill_ms": answered.prefill_ms}
        return parts if rate is None else {**parts, "token_ms": 1000 / rate}

    @property
    def _new_tokens(self) -> int:
        """Of a timed answer: the quantity's, else a few, so that a rate is known too."""
        return self.quantity.tokens if self.quantity.kind == ANSWER else 4

    def _vision_thing(self, candidate: Candidate) -> MeasuredThing:
        settings = {"threads": candidate.threads, "tiles": candidate.tiles, "repeats": self.repeats}
        sha256, engines = candidate.vision_sha256, self._engines(candidate)
        return MeasuredThing("encode", sha256, self.runtime, None, settings, engines)

    def _text_thing(self, candidate: Candidate) -> MeasuredThing:
        settings = {
            "threads": candidate.threads,
            "pictures": self.pictures,
            "prompt_tokens": len(timed_prompt(candidate.model, self.pictures).input_ids),
            "new_tokens": self._new_tokens,
            "repeats": self.repeats,
        }
        return MeasuredThing("text", candidate.model.decoder_sha256, self.runtime, self.text_runtime, settings)

    def _memory_thing(self, candidate: Candidate) -> MeasuredThing:
        settings = {"threads": candidate.threads, "batch": candidate.batch, "answers": int(self.quantity.needs_text)}
        sha256, engines = candidate.model.answers_sha256, self._engines(candidate)
        return MeasuredThing("memory", sha256, self.runtime, self.text_runtime, settings, engines)

    def _engines(self, candidate: Candidate) -> tuple[str, ...]:
        """Of the graphs that a question runs, the engines that are here."""
        graphs = {candidate.model.graph_sha256(batch) for batch in candidate.runs}
        return tuple(digest for graph in sorted(graphs) for digest in engine_digests(graph))


def calibrated_ms(candidate: Candidate) -> float | None:
    """Milliseconds of the vision tower by the bundle's own calibration, where that timed the graph that a question
    runs, on this processor with as many threads, and had the processor for itself."""
    model = candidate.model
    vision = model.bundle.manifest.vision
    record = vision.calibration or {}
    series = (record.get("milliseconds") or {}).get("eight_bit")
    same_machine = record.get("device") == cpu_title() and candidate.threads == default_threads()
    if not series or not same_machine or candidate.runs != [vision.graphs[0].batch]:
        return None
    undisturbed = series.get("cpu_over_wall", 0.0) >= STALLED_BELOW * candidate.threads
    return series.get("milliseconds") if undisturbed else None


def _text_figures(figures: dict[str, float], source: str) -> TextFigures:
    token = figures.get("token_ms")
    return TextFigures(
        Figure.exact(figures["preprocess_ms"], source),
        Figure.exact(figures["prefill_ms"], source),
        Figure(0.0, 0.0, math.inf, frozenset({BOUNDED})) if token is None else Figure.exact(token, source),
    )


def fitted_bytes(candidate: Candidate, device) -> int:
    """By arithmetic on the files, as ``laco-engine doctor`` tells it."""
    return bundle_fit(candidate.bundle, device).needed_bytes
