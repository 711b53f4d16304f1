"""Build the engines of a bundle: look in the cache, estimate, refuse what will not fit, build, seal, compare.

::

    results = build_bundle(open_bundle(folder), resolve_device(None), BuildOptions())
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from laco_export import __version__
from laco_export.bundle import Bundle, VisionGraph
from laco_export.disk_space import require_space
from laco_export.errors import LacoError, UsageError
from laco_export.exporter.engine_builder import BuiltEngine, EngineRequest, build_engine
from laco_export.machine import available_memory
from laco_export.verified_files import BundleChangedError

from ..cost.estimate import BUILD_TIMEOUT, CONTEXT_BYTES, MIB, Estimate, estimate
from ..cost.graph_cost import graph_cost
from ..store.engine_cache import EngineCache, EngineKey, StoredEngine
from .build_device import BuildDevice

HOST_WEIGHT_COPIES = 3.5
"""Of the builder's process, in the system's memory: TensorRT-RTX's took at most 3.4 times the weights over an empty
one's 0.2 GiB (benchmarks/results/engine_builds.json); standard TensorRT parses and serialises alike."""


class EngineMemoryError(LacoError):
    """A build would not fit into memory."""


@dataclass(frozen=True)
class BuildOptions:
    """What may be chosen.

    Attributes:
        workspace_bytes: ``--workspace``, a cap on a tactic's scratch memory; None leaves it to what is free.
        level: ``--level``, the builder's effort from 0 (fast) to 5; None is TensorRT's own default.
    """

    workspace_bytes: int | None = None
    level: int | None = None

    def __post_init__(self) -> None:
        if self.level is not None and not 0 <= self.level <= 5:
            raise UsageError("--level must be 0 to 5", given=self.level)
        if self.workspace_bytes is not None and self.workspace_bytes < MIB:
            raise UsageError("--workspace must be at least 1 MiB", given=f"{self.workspace_bytes} bytes")


@dataclass(frozen=True)
class BuildResult:
    """One graph's engine.

    Attributes:
        status: ``built``, ``cached``, or ``rebuilt`` where the stored one was damaged.
        reason: why it was rebuilt.
        built: what the build said; None for a cached one.
        left_out: compute capabilities that nobody named and that cannot hold this graph, with :attr:`left_out_reason`.
    """

    graph: VisionGraph
    stored: StoredEngine
    status: str
    estimate: Estimate
    built: BuiltEngine | None = None
    reason: str | None = None
    left_out: tuple[int, ...] = ()
    left_out_reason: str | None = None

    def to_dict(self) -> dict:
        """For ``--json``."""
        return {
            "graph": self.graph.file,
            "batch": self.graph.batch,
            "status": self.status,
            "reason": self.reason,
            "engine": str(self.stored.path),
            "engine_bytes": self.stored.sidecar["engine"]["bytes"],
            "precision": self.stored.sidecar["bundle"]["precision"],
            "built_for": self.stored.sidecar["built_for"],
            "seconds": None if self.built is None else self.built.seconds,
            "warnings": list(self.built.warnings) if self.built else [],
            "left_out": list(self.left_out),
            "left_out_reason": self.left_out_reason,
            "estimate": self.estimate.to_dict(),
        }


def build_bundle(
    bundle: Bundle,
    device: BuildDevice,
    options: BuildOptions,
    *,
    cache: EngineCache | None = None,
    on_message: Callable[[str], None] | None = None,
    on_start: Callable[[VisionGraph], None] | None = None,
) -> list[BuildResult]:
    """Build (or find) the engine of each vision graph.

    Args:
        on_message: each line that TensorRT prints, as it comes.
        on_start: called before a graph is built.

    Raises:
        EngineMemoryError: the estimate does not fit into what is free; nothing was started.
        EngineBuildError: TensorRT refused, crashed or took too long; what was built before it stays in the cache.
    """
    cache = cache or EngineCache()
    return [
        _build_graph(bundle, graph, device, options, cache, on_message, on_start)
        for graph in bundle.manifest.vision.graphs
    ]


def engine_key(bundle: Bundle, graph: VisionGraph, device: BuildDevice, options: BuildOptions) -> EngineKey:
    """The cache key of a graph's engine, for a device that :meth:`BuildDevice.for_graph` fitted to it."""
    return EngineKey(
        graph_sha256=bundle.graph_sha256(graph),
        library=device.library,
        version=device.version,
        device=device.identity,
        compute_capabilities=device.compute_capabilities,
        # As asked for, not as capped: what is free changes from run to run and must not make a miss.
        options={"workspace": options.workspace_bytes, "level": options.level},
        system=device.system,
    )


def _build_graph(bundle, graph, device, options, cache: EngineCache, on_message, on_start) -> BuildResult:
    cost = graph_cost(bundle.file(graph.file))
    asked_for, device = device, device.for_graph(cost)
    left_out = tuple(set(asked_for.compute_capabilities) - set(device.compute_capabilities))
    omission = {"left_out": left_out, "left_out_reason": asked_for.why_left_out(cost) if left_out else None}
    key = engine_key(bundle, graph, device, options)
    expected = estimate(cost, workspace_bytes=options.workspace_bytes, profile=device.profile)
    stored, damage = cache.find(key), None
    if stored is not None:
        damage = stored.damage()
        if damage is None:
            return BuildResult(graph, cache.annotate(stored), "cached", expected, **omission)
        cache.forget(key)
    workspace = _workspace(graph, cost, expected, device, options)
    path = cache.path_of(key)
    _make_folder(path.parent)
    another = "set LACO_ENGINE_CACHE to another disk"
    require_space(path.parent, expected.engine_bytes, place=path.parent, what="the engine", elsewhere=another)
    if on_start:
        on_start(graph)
    request = EngineRequest(
        graph=str(bundle.file(graph.file).absolute()),
        library=device.library,
        output=str(path),
        workspace_bytes=workspace,
        optimization_level=options.level,
        compute_capabilities=device.compute_capabilities,
        timing_cache=str(_timing_cache(cache, device)) if device.library == "tensorrt" else None,
    )
    try:
        with bundle.unchanged(graph.file, bundle.manifest.vision.weights):
            built = build_engine(request, timeout=BUILD_TIMEOUT, on_message=on_message)
    except BundleChangedError:  # the engine would be another graph's than its key says
        cache.forget(key)
        raise
    if built.version != device.version:
        cache.forget(key)
        raise LacoError(
            f"{device.library} says another version than its package",
            given=f"{built.version}, package {device.version}",
            todo="reinstall it",
        )
    stored = cache.seal(key, _facts(bundle, graph, device, workspace, built, expected))
    return BuildResult(graph, stored, "rebuilt" if damage else "built", expected, built, damage, **omission)


def _workspace(graph: VisionGraph, cost, expected: Estimate, device: BuildDevice, options: BuildOptions) -> int | None:
    """The workspace to build with, capped to what is free; or a refusal, before memory runs out."""
    cuda = device.cuda
    if cuda is None or not cuda.integrated:  # the builder's process, which holds the weights several times over
        on_host = int(HOST_WEIGHT_COPIES * cost.weight_bytes) + CONTEXT_BYTES
        _require(graph, cost, on_host, available_memory(), "memory")
    if cuda is None:
        return options.workspace_bytes
    free = cuda.free_bytes
    _require(graph, cost, expected.build_bytes, free, "memory" if cuda.integrated else "device memory")
    room = free - (expected.build_bytes - min(options.workspace_bytes or cost.activation_bytes, cost.activation_bytes))
    return max(MIB, min(options.workspace_bytes or room, room))


def _require(graph: VisionGraph, cost, needed: int, free: int | None, where: str) -> None:
    if free is not None and needed > free:
        raise EngineMemoryError(
            f"building an engine of {graph.file} would not fit into {where}",
            given=f"{free / MIB:,.0f} MiB free",
            allowed=f"about {needed / MIB:,.0f} MiB (estimated: the weights' {cost.weight_bytes / MIB:,.0f} MiB "
            f"several times over, activations, workspace, {CONTEXT_BYTES // MIB} MiB for CUDA)",
            todo="close other programs (a loaded language model, the desktop), lower --workspace, or export a smaller "
            "--batch",
        )


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise LacoError(
            f"the engine cache cannot be written: {error.strerror}",
            given=f"'{folder}'",
            todo="set LACO_ENGINE_CACHE to a folder that can be written",
        ) from None


def _timing_cache(cache: EngineCache, device: BuildDevice) -> Path:
    """One per device, system and version: a tactic's time is good on no other."""
    place = re.sub(r"[^A-Za-z0-9.]+", "-", f"{device.identity} {device.system}").strip("-")
    return cache.folder / f"{place}-tensorrt-{device.version}.timing"


def _facts(bundle: Bundle, graph: VisionGraph, device: BuildDevice, workspace, built: BuiltEngine, expected) -> dict:
    """What the sidecar says beside the key: for people and for the runtime's refusals."""
    return {
        "built_by": f"laco-export {__version__}",
        "built_for": device.title,
        "bundle": {
            "source": bundle.manifest.source,
            "graph": graph.file,
            "precision": bundle.manifest.vision.precision,
        },
        "tensors": {"input": asdict(graph.input), "output": asdict(graph.output)},
        "batch": graph.batch,
        "workspace_applied": workspace,
        "seconds": built.seconds,
        "peak_host_bytes": built.peak_host_bytes,
        "warnings": list(built.warnings),
        "estimate": expected.to_dict(),
    }
