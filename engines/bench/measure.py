"""Measure bundles beside each other: encode time, time to first token, decoding, memory, floors, energy.

::

    report = run_bench([open_bundle(a), open_bundle(b)], BenchOptions(batches=(1, 5)))

All encodes are sampled in turn (:mod:`laco_export.timing`), then the language models in turn. What is stated with the
figures: machine, clocks, power mode, warm-up, repeats, rejected samples, versions.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import count
from typing import TYPE_CHECKING

import numpy as np

from laco_export.bundle import Bundle
from laco_export.errors import UsageError
from laco_export.machine import default_threads, library_versions
from laco_export.timing import Series, interleave

from ..cost.graph_cost import GraphCost, graph_cost
from ..cost.roofline import floor_on_device, floor_on_host
from ..devices.cuda import present_device
from ..devices.host_peaks import HostPeaks, measure_peaks
from ..devices.power import find_rails, measure_energy
from ..devices.profiles import device_profile
from ..devices.state import machine_state
from ..runtimes import VisionRuntime, open_runtime
from ..runtimes.protocol import split_batch
from .process_memory import MemoryRequest, bundle_memory
from .results import BenchReport, DecodeResult, EncodeResult

if TYPE_CHECKING:
    from PIL import Image

    from ..answering import Answerer, Timings

QUESTION = "What is in the picture?"
PICTURE = (336, 336, 3)  # of the answers, [H, W, 3]: random, new ones each time
ENERGY_S = 2.0
"""Seconds of each energy measurement: a hundred readings of the sensors."""
_LIBRARIES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "tensorrt", "tensorrt-rtx", "torch", "numpy")


@dataclass(frozen=True)
class BenchOptions:
    """What is measured.

    Attributes:
        batches: numbers of pictures a call; empty takes the bundle's own batch sizes.
        at: depths of bundles of several; empty takes all that each carries.
        runtime, text_runtime: by name, of the vision tower and of the language model; None takes the best.
        repeats, warmup: samples kept of each subject, and runs before the first.
        threads: CPU threads; None takes the cores that there are.
        llm: measure the language model too, where there is one.
        new_tokens: of each answer.
        pictures: that each answer is about.
        memory: measure each bundle's peak memory, in a process of its own.
    """

    batches: tuple[int, ...] = ()
    at: tuple[str, ...] = ()
    runtime: str | None = None
    text_runtime: str | None = None
    repeats: int = 20
    warmup: int = 3
    threads: int | None = None
    llm: bool = True
    new_tokens: int = 32
    pictures: int = 1
    memory: bool = True

    def __post_init__(self) -> None:
        for name, least in (("repeats", 1), ("new_tokens", 1), ("pictures", 1), ("warmup", 0)):
            if getattr(self, name) < least:
                option = f"--{name.replace('_', '-')}"
                raise UsageError(f"{option} must be at least {least}", given=getattr(self, name))


@dataclass
class _Subject:
    """A bundle that is loaded at one depth, with what its graphs cost by batch size."""

    name: str
    bundle: Bundle
    vision: VisionRuntime
    costs: dict[int, GraphCost]
    answerer: Answerer | None = None

    @property
    def answers_on_cpu(self) -> bool:
        return self.vision.on_cpu and self.answerer.text.session.get_providers()[0] == "CPUExecutionProvider"

    @property
    def depth(self) -> float:
        block, blocks = self.bundle.manifest.compression.get("block"), self.bundle.manifest.encoder.get("num_blocks")
        return 1.0 if block is None or not blocks else block / blocks

    @property
    def depths(self) -> list[float]:
        """Of several merges."""
        blocks = self.bundle.manifest.encoder.get("num_blocks")
        return [merge["block"] / blocks for merge in self.bundle.manifest.compression.get("merges", ())]

    def encode(self, pixels: np.ndarray) -> Callable[[], object]:
        return lambda: self.vision.encode(pixels)


def run_bench(
    bundles: Sequence[Bundle],
    options: BenchOptions,
    *,
    advance: Callable[[str], None] = lambda what: None,
    peaks: HostPeaks | None = None,
) -> BenchReport:
    """Measure bundles in one run.

    Args:
        advance: told what is being done, for a progress line.
        peaks: of this CPU with so many threads, where they were measured before; else floors measure them.

    Raises:
        DepthError: a bundle does not carry a depth that is asked for.
        RuntimeMissingError, BundleError: a bundle cannot be run as asked for.
    """
    for bundle in bundles:
        for depth in options.at:
            bundle.at(depth)  # refused before anything is loaded
    threads = options.threads or default_threads()
    state = machine_state()
    report = BenchReport(
        state.to_dict(),
        state.summary,
        {**asdict(options), "threads": threads},
        library_versions(_LIBRARIES),
        host_peaks=peaks,
    )
    advance("loading")
    subjects = [
        subject for name, bundle in _names(bundles).items() for subject in _load(bundle, name, options, threads)
    ]
    for subject in subjects:
        text_passed_over = subject.answerer.text.passed_over if subject.answerer else ()
        report.passed_over[subject.name] = [*subject.vision.passed_over, *text_passed_over]
    _measure_encodes(subjects, options, threads, report, advance)
    _measure_answers(subjects, options, report, advance)
    report.machine_after = machine_state().to_dict()
    if options.memory:
        _measure_memory(subjects, options, threads, report, advance)
    return report


def _names(bundles: Sequence[Bundle]) -> dict[str, Bundle]:
    """Folder names, with the parent's where two are alike, and a number where those are too."""
    paths = [bundle.path.resolve() for bundle in bundles]
    names = [path.name for path in paths]
    chosen: dict[str, Bundle] = {}
    for bundle, path in zip(bundles, paths):
        name = path.name if names.count(path.name) == 1 else "/".join(path.parts[-2:])
        if name in chosen:
            name = next(f"{name} ({number})" for number in count(2) if f"{name} ({number})" not in chosen)
        chosen[name] = bundle
    return chosen


def _load(bundle: Bundle, name: str, options: BenchOptions, threads: int) -> Iterator[_Subject]:
    """The bundle at each depth, with one language model for all."""
    views = [bundle.at(depth) for depth in options.at or bundle.depths]
    answerer = None
    if options.llm and bundle.manifest.decoder is not None:
        from ..answering import Answerer

        answerer = Answerer(
            bundle,
            at=views[0].depths[0],
            runtime=options.runtime,
            text_runtime=options.text_runtime,
            threads=threads,
        )
    for view in views:
        (depth,) = view.depths
        title = name if len(bundle.depths) == 1 else f"{name} @{depth}"
        costs = {graph.batch: graph_cost(view.file(graph.file)) for graph in view.manifest.vision.graphs}
        if answerer is None:
            yield _Subject(title, view, open_runtime(view, name=options.runtime, threads=threads), costs)
        else:
            there = answerer.at(depth)
            yield _Subject(title, view, there.vision, costs, there)


def _measure_encodes(
    subjects: Sequence[_Subject], options: BenchOptions, threads: int, report: BenchReport, advance
) -> None:
    runs, described = {}, {}
    for subject in subjects:
        for batch in options.batches or subject.vision.batch_sizes:
            shape = (batch, *subject.bundle.manifest.vision.graphs[0].input.shape[1:])
            run = subject.encode(np.random.default_rng(0).standard_normal(shape, np.float32))
            subject.vision.prepare(batch)
            name = f"{subject.name}, batch {batch}"
            described[name] = (subject, batch, run)
            runs[name] = (run, subject.vision.on_cpu)
    advance(f"encoding: {len(runs)} in turn, {options.warmup} + {options.repeats} times")
    measured = interleave(runs, repeats=options.repeats, warmup=options.warmup)
    if report.host_peaks is None and any(subject.vision.on_cpu for subject in subjects):
        advance("measuring what this CPU can do at best")
        report.host_peaks = _host_peaks(threads, report)
    rails = find_rails()
    if not rails:
        report.notes.append("no energy: this machine shows no power monitor (INA3221 or INA238)")
    profile = device_profile(present_device())
    for name, series in measured.items():
        subject, batch, run = described[name]
        result = _encode_result(subject, batch, series)
        costs = [subject.costs[size] for size in result.runs]
        on_host = subject.vision.on_cpu
        floor = floor_on_host(costs, report.host_peaks) if on_host else floor_on_device(costs, profile)
        result.floor, result.floor_missing = floor
        if rails:
            advance(f"energy of {name}")
            energy = measure_energy(run, batch, rails, seconds=ENERGY_S)
            result.energy = asdict(energy) if energy else None
        report.encode.append(result)


def _encode_result(subject: _Subject, batch: int, series: Series) -> EncodeResult:
    runs = split_batch(batch, subject.vision.batch_sizes)
    p50, smallest = series.quantile(0.5), min(subject.costs)
    return EncodeResult(
        bundle=subject.name,
        depth=subject.depth,
        precision=subject.vision.precision,
        runtime=subject.vision.name,
        batch=batch,
        runs=runs,
        padded=sum(runs) - batch,
        p50_ms=p50,
        p95_ms=series.quantile(0.95),
        images_per_s=1000 * batch / p50,
        kept=len(series.accepted),
        rejected=series.rejected,
        cpu_over_wall=series.cpu_ratio,
        flops_per_image=subject.costs[smallest].total_flops / smallest,
        depths=subject.depths,
    )


def _host_peaks(threads: int, report: BenchReport) -> HostPeaks | None:
    try:
        return measure_peaks(threads)
    except ModuleNotFoundError as error:
        report.notes.append(f"no CPU roofline: {error.name} is not installed")
        return None


def _measure_answers(subjects: Sequence[_Subject], options: BenchOptions, report: BenchReport, advance) -> None:
    """Time to first token and decoding, in turn."""
    asked = {subject.name: subject for subject in subjects if subject.answerer is not None}
    if not asked:
        return
    advance(f"answering: {len(asked)} in turn, {options.warmup} + {options.repeats} times")
    askers = {name: _Asker(subject, options) for name, subject in asked.items()}
    runs = {name: (asker, asked[name].answers_on_cpu) for name, asker in askers.items()}
    measured = interleave(runs, repeats=options.repeats, warmup=options.warmup)
    for name, series in measured.items():
        answers = askers[name].answers[-len(series.samples) :]  # without the warm-up
        timings = [answer.timings for answer, accepted in zip(answers, series.is_accepted) if accepted]
        report.decode.append(_decode_result(asked[name], answers[0].prompt_tokens, timings, series))


def random_pictures(seed: int, count: int) -> list[Image.Image]:
    """Pictures that an answer is timed about."""
    from PIL import Image

    values = np.random.default_rng(seed)
    return [Image.fromarray(values.integers(0, 256, PICTURE, np.uint8)) for _ in range(count)]


class _Asker:
    """Asks about new random pictures on every call, so that nothing of an earlier answer can be used again."""

    def __init__(self, subject: _Subject, options: BenchOptions):
        self.answers: list = []
        self._answerer, self._options = subject.answerer, options

    def __call__(self) -> None:
        pictures = random_pictures(len(self.answers), self._options.pictures)
        self._answerer.forget()
        self.answers.append(self._answerer.answer(pictures, QUESTION, max_new_tokens=self._options.new_tokens))


def _decode_result(subject: _Subject, prompt_tokens: int, timings: list[Timings], series: Series) -> DecodeResult:
    first = [timing.first_token_ms for timing in timings]
    rates = [timing.decode_tokens_per_s for timing in timings if timing.decode_tokens_per_s]
    return DecodeResult(
        bundle=subject.name,
        precision=subject.bundle.manifest.decoder.precision,
        prompt_tokens=prompt_tokens,
        first_token_ms=float(np.median(first)),
        first_token_p95_ms=float(np.quantile(first, 0.95)),
        encode_ms=float(np.median([timing.encode_ms for timing in timings])),
        prefill_ms=float(np.median([timing.prefill_ms for timing in timings])),
        decode_tokens_per_s=float(np.median(rates)) if rates else None,
        kept=len(timings),
        rejected=series.rejected,
        cpu_over_wall=series.cpu_ratio,
        text_runtime=subject.answerer.text.name,
    )


def _measure_memory(
    subjects: Sequence[_Subject], options: BenchOptions, threads: int, report: BenchReport, advance
) -> None:
    for subject in subjects:
        advance(f"memory of {subject.name}")
        batch = max(options.batches or subject.vision.batch_sizes)
        request = MemoryRequest(
            str(subject.bundle.path.absolute()),
            options.runtime,
            threads,
            batch,
            subject.answerer is not None,
            options.text_runtime,
            subject.bundle.depths[0],
        )
        with subject.bundle.unchanged():  # which that process opens anew
            report.memory[subject.name] = bundle_memory(request)
