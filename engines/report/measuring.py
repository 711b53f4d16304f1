"""The figures of each subject beside its answers: times and floors, memory, energy, size, drift."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from laco_export.bundle import Bundle

from ..bench.process_memory import MemoryRequest, bundle_memory
from ..devices.power import Energy
from .asking import AskedSubject, AskingOptions
from .drift import TowerDrift, tower_drift
from .first_token import AnswerFloors, AnswerTimes, FloorMeter, answer_times


@dataclass(frozen=True)
class SubjectMeasures:
    """Of one subject; what is None is said in ``missing``.

    Attributes:
        stored_bytes: of the files that this depth needs.
        peak_bytes: resident memory of a process that loads and asks this subject alone; device_bytes: of a GPU's own.
    """

    times: AnswerTimes
    floors: AnswerFloors
    stored_bytes: int
    peak_bytes: int | None
    device_bytes: int | None
    energy: Energy | None
    drift: TowerDrift | None
    missing: list[str] = field(default_factory=list)


def measure_subjects(
    asked: Sequence[AskedSubject],
    options: AskingOptions,
    threads: int,
    *,
    memory: bool,
    advance: Callable[..., None] = lambda *words, **more: None,
) -> tuple[list[SubjectMeasures], FloorMeter]:
    """Measure them all; ``advance`` is called once for each.

    Returns:
        the measures, and the meter with the peaks that the floors are made of.
    """
    meter, measures = FloorMeter(threads), []
    for subject in asked:
        times = answer_times(subject)
        advance(0, description=f"floors of {subject.subject.name}")
        floors, drift = meter.floors(subject, times), tower_drift(subject.subject.bundle.manifest)
        advance(0, description=f"memory of {subject.subject.name}")
        taken = _memory(subject.subject.bundle, options, threads) if memory else {"error": "it was not asked for"}
        measures.append(
            SubjectMeasures(
                times,
                floors,
                stored_bytes(subject.subject.bundle),
                taken.get("peak_resident_bytes"),
                taken.get("device_bytes"),
                subject.energy,
                drift,
                missing=list(_missing(times, floors, taken, drift)),
            )
        )
        advance(1)
    return measures, meter


def stored_bytes(bundle: Bundle) -> int:
    """Of all files of the bundle's folder: further depths share all but some of them."""
    return sum(entry["bytes"] for entry in bundle.manifest.files.values())


def _memory(bundle: Bundle, options: AskingOptions, threads: int) -> dict:
    batch = min(graph.batch for graph in bundle.manifest.vision.graphs)
    request = MemoryRequest(
        str(bundle.path.absolute()),
        options.runtime,
        threads,
        batch,
        llm=True,
        text_runtime=options.text_runtime,
        at=bundle.depths[0],
    )
    with bundle.unchanged():  # which that process opens anew
        return bundle_memory(request)


def _missing(times: AnswerTimes, floors: AnswerFloors, taken: dict, drift: TowerDrift | None):
    if "error" in taken:
        yield f"peak memory: {taken['error']}"
    if floors.missing:
        yield floors.missing
    if times.tokens_per_s is None:
        yield "tokens a second: every answer is one token"
    if drift is None:
        yield "drift by block: the bundle carries no comparison of its blocks"
