"""From bundles and limits to a plan.

::

    plan = plan_bundles({"half": open_bundle("half"), "all": open_bundle("all")}, PlanOptions(Limits(time_ms=150)))
    plan.choice                # what to run, or None

What can be refused without measuring is refused by :func:`models_to_plan`, which reads manifests alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from laco_export.bundle import Bundle
from laco_export.errors import UsageError
from laco_export.machine import default_threads

from ..devices.cuda import present_device
from ..devices.profiles import PROFILES, DeviceProfile, device_profile
from ..devices.state import machine_state
from ..same_model import require_same_model
from .gauges import Gauge, HostGauge
from .limits import Limits, Quantity
from .measurements import MeasurementCache
from .predictions import DeviceGauge
from .quality import QualitySource
from .search import ANSWERS, PREFERENCES, TIME, Search
from .space import Candidate, Model, models_of, require_graphs, space_of
from .spans import DECODE_SPAN, PREFILL_SPAN, SMALLEST_FIGURE, VISION_SPAN, FloorSpan
from .verdict import DeploymentPlan


@dataclass(frozen=True)
class PlanOptions:
    """What is looked for.

    Attributes:
        limits: what must be kept.
        quantity: what the time is of.
        device: a name of :data:`~laco_engines.devices.profiles.PROFILES`; None is this machine.
        prefer: of what keeps the limits, what is best: ``answers``, ``time`` or ``memory``; None takes answers where
            something is known of them, else time.
        pictures: of one question.
        batches, threads: to try; empty takes the graphs that there are, and powers of two up to the cores.
        runtime, text_runtime, repeats, warmup: as ``laco-engine bench`` takes them.
        fresh: measure again what was measured before.
    """

    limits: Limits = field(default_factory=Limits)
    quantity: Quantity = field(default_factory=Quantity)
    device: str | None = None
    prefer: str | None = None
    pictures: int = 1
    batches: tuple[int, ...] = ()
    threads: tuple[int, ...] = ()
    runtime: str | None = None
    text_runtime: str | None = None
    repeats: int = 10
    warmup: int = 2
    fresh: bool = False

    def __post_init__(self) -> None:
        if self.device is not None and self.device not in PROFILES:
            raise UsageError("--device is not in the table of devices", given=self.device, allowed=", ".join(PROFILES))
        if self.prefer not in (None, *PREFERENCES):
            raise UsageError("--prefer names nothing to prefer", given=self.prefer, allowed=", ".join(PREFERENCES))
        if self.elsewhere is not None and self.threads:
            raise UsageError("threads are this machine's", given=f"--threads with --device {self.device}")

    @property
    def elsewhere(self) -> DeviceProfile | None:
        """The device where it is not this machine."""
        here = device_profile(present_device())
        return None if self.device is None or (here and here.name == self.device) else PROFILES[self.device]


def models_to_plan(bundles: Mapping[str, Bundle], options: PlanOptions) -> tuple[list[Model], list[str]]:
    """What is planned for, by manifests alone.

    Returns:
        the models, and why others were left out.

    Raises:
        UsageError: the bundles are of different models; one has no language model where the time is of it; the device
            can run none of them; none has a graph for a batch size that is asked for.
    """
    require_same_model(bundles)
    models, notes = models_of(bundles), []
    if options.quantity.needs_text and (silent := [model.name for model in models if model.language_model is None]):
        raise UsageError(
            f"a bundle without a language model has no time for {options.quantity}",
            given=", ".join(silent),
            todo="plan for its vision tower: --of encode",
        )
    if options.elsewhere is not None:
        for_cpu = [model for model in models if not model.bundle.manifest.vision.target.startswith("trt")]
        models = [model for model in models if model not in for_cpu]
        notes += [f"{model.name} is left out: it was exported for ONNX Runtime's CPU" for model in for_cpu]
        if not models:
            raise UsageError(
                f"none of the bundles is for {options.elsewhere.title}",
                given=", ".join(model.name for model in for_cpu),
                allowed="bundles of --target trt10.3 or trt10.14",
            )
    require_graphs(models, options.batches)
    return models, notes


def plan_bundles(
    bundles: Mapping[str, Bundle],
    options: PlanOptions,
    choose_quality: Callable[[list[Model]], QualitySource | None] = lambda models: None,
    *,
    advance: Callable[[str], None] = lambda what: None,
    everything: bool = False,
) -> DeploymentPlan:
    """Search.

    Args:
        bundles: name, as the user knows it, → verified bundle.
        choose_quality: the source of points lost for these models, or None.
        advance: told what is being done, for a progress line.
        everything: measure the whole space, for a comparison with what the search finds.

    Raises:
        UsageError: as :func:`models_to_plan`; ``limits.drop`` without a source; nothing to choose from.
        MeasurementError: a figure that the plan needs cannot be had.
    """
    models, notes = models_to_plan(bundles, options)
    quality = choose_quality(models)
    require_quality(options, quality)
    if quality is not None:
        models, silent = _with_points(models, quality)
        notes += [f"{model.name} is left out: {quality.title} says nothing of it" for model in silent]
    space = space_of(models, pictures=options.pictures, threads=_threads(options), batches=options.batches)
    if len(space) == 1 and options.limits == Limits():
        raise UsageError("there is nothing to choose: one candidate and no limit", given=space[0], todo="--budget TIME")
    if quality is not None:
        quality.check()
    gauge, limits = _gauge(options, advance), options.limits
    if (profile := options.elsewhere) is not None:
        limits = replace(limits, memory_bytes=min(limits.memory_bytes or profile.usable_bytes, profile.usable_bytes))
        notes += _predicted_notes(profile, options.quantity, _smallest(space, gauge))
    prefer = options.prefer or (TIME if quality is None else ANSWERS)
    search = Search(space, options.quantity, limits, gauge, quality, prefer)
    assessed = search.run(everything=everything)
    choice = search.best(assessed)
    if gauge.busy:
        notes.append(
            f"the machine did something else too while {len(gauge.busy)} candidates were measured: their times are too "
            "long; measure again when it is idle, by --fresh"
        )
    return DeploymentPlan(
        quantity=options.quantity,
        limits=limits,
        prefer=prefer,
        device=machine_state().summary if profile is None else profile.title,
        elsewhere=None if profile is None else profile.title,
        quality=None if quality is None else quality.title,
        choice=choice,
        failing=search.better(assessed, choice),
        assessed=assessed,
        measured=gauge.taken,
        asked=0 if quality is None else quality.asked,
        notes=notes,
    )


def require_quality(options: PlanOptions, quality: QualitySource | None) -> None:
    """Raise :class:`UsageError` where answers are to count and nothing is known of them."""
    asked_for = "--max-drop" if options.limits.drop is not None else None
    if options.prefer == ANSWERS:
        asked_for = "--prefer answers"
    if quality is None and asked_for:
        raise UsageError(
            f"{asked_for} needs to know what each bundle answers, and nothing is known of that",
            todo="give questions (--questions FILE --images DIR), results of a benchmark (--benchmark JSON), or "
            "--calibrated where calibrations asked questions",
        )


def _with_points(models: list[Model], quality: QualitySource) -> tuple[list[Model], list[Model]]:
    """Those of which the source can say something, and the others."""
    silent = [model for model in models if not quality.can_tell(model)]
    return [model for model in models if model not in silent], silent


def _threads(options: PlanOptions) -> tuple[int | None, ...]:
    if options.threads or options.elsewhere is not None:
        return options.threads or (None,)
    most = default_threads()
    return tuple(sorted({most, *(2**power for power in range(most.bit_length()) if 2**power <= most)}))


def _gauge(options: PlanOptions, advance: Callable[[str], None]) -> Gauge:
    if options.elsewhere is not None:
        return DeviceGauge(options.elsewhere, options.quantity, options.pictures)
    return HostGauge(
        options.quantity,
        options.pictures,
        runtime=options.runtime,
        text_runtime=options.text_runtime,
        repeats=options.repeats,
        warmup=options.warmup,
        cache=MeasurementCache(fresh=options.fresh),
        advance=advance,
    )


def _smallest(space: Sequence[Candidate], gauge: Gauge) -> int:
    """Operations of the smallest vision tower."""
    return min(sum(gauge.operations(candidate).values()) for candidate in space)


def _predicted_notes(profile: DeviceProfile, quantity: Quantity, smallest: int) -> list[str]:
    """How predictions came about, for people."""
    spans: list[tuple[str, FloorSpan]] = [("vision tower", VISION_SPAN)]
    if quantity.needs_text:
        spans += [("prompt", PREFILL_SPAN), ("each further token", DECODE_SPAN)]
    factors = ", ".join(f"{part} {span.low:g} to {span.high:g}" for part, span in spans)
    left_out = "; reading and resizing pictures is left out" * quantity.needs_text
    notes = [
        f"every time is predicted and none measured: the floor on {profile.title} times what public figures of like "
        f"models took of theirs ({factors}){left_out}",
        f"memory is predicted by arithmetic; programs may take {profile.usable_bytes / (1 << 30):.2f} GiB there",
    ]
    if smallest < SMALLEST_FIGURE:
        notes.append(
            f"the smallest vision tower has {smallest / 1e9:.1f} GFLOP, and public figures begin at "
            f"{SMALLEST_FIGURE / 1e9:.0f}: it may take longer, since starting its kernels is no part of a floor"
        )
    return notes
