"""Which stored engine may run here: the right graph, library, version and device, undamaged; never another."""

from __future__ import annotations

from laco_export.bundle import Bundle, VisionGraph

from ..devices.cuda import CudaDevice
from .engine_cache import EngineCache, StoredEngine


class EngineMismatchError(Exception):
    """No stored engine fits; the message says what is there and where it differs."""


def choose_engine(
    cache: EngineCache, bundle: Bundle, graph: VisionGraph, *, library: str, version: str, device: CudaDevice
) -> StoredEngine:
    """The engine of a graph that runs here; of several the one that was last built or asked for.

    Raises:
        EngineMismatchError: none does.
    """
    stored = cache.engines_of(bundle.graph_sha256(graph))
    if not stored:
        raise EngineMismatchError(f"no engine was built of {graph.file}")
    reasons = []
    for engine in stored:
        reason = mismatch(engine, library=library, version=version, device=device) or engine.damage()
        if reason is None:
            return engine
        reasons.append(reason)
    raise EngineMismatchError(f"no engine of {graph.file} runs here: " + "; ".join(dict.fromkeys(reasons)))


def mismatch(engine: StoredEngine, *, library: str, version: str, device: CudaDevice) -> str | None:
    """Why an engine is for another place, or None. Engines are not portable across GPU, TensorRT version or JetPack."""
    key = engine.key
    if engine.outdated:
        maker = engine.sidecar.get("built_by", "an older version")
        return f"one is by {maker}, which did not note its board and JetPack"
    if key.library != library:
        return f"one is for {key.library}"
    if key.version != version:
        return f"one is for {library} {key.version}, here is {version}"
    if library == "tensorrt_rtx":
        if device.capability not in key.compute_capabilities:
            built = ", ".join(map(str, key.compute_capabilities))
            return f"one is for compute capability {built}, here is {device.capability}"
        return None  # built for the capability, with or without a device
    if key.device != device.identity:
        return f"one is for {key.device}, here is {device.identity}"
    if key.system != device.system:
        return f"one is for {key.system or 'an unknown JetPack'}, here is {device.system or 'an unknown one'}"
    return None
