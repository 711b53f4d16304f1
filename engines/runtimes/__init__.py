"""Vision runtimes behind one protocol, without torch.

- :mod:`.protocol`: what every vision runtime offers, and how pictures are split over static batch sizes;
- :mod:`.onnx_runtime`: on ONNX Runtime, by any of its execution providers;
- :mod:`.tensorrt_engine`: on engines for TensorRT and TensorRT-RTX;
- :mod:`.cuda_buffers`: device and pinned memory, a stream, a captured graph.

Adding one is one file with a class that takes ``(bundle, *, threads)`` and raises :class:`RuntimeMissingError` where it
cannot run, and one line in :data:`RUNTIMES`.
"""

from __future__ import annotations

from collections.abc import Callable

from laco_export.bundle import Bundle
from laco_export.errors import UsageError

from .onnx_runtime import OnnxRuntimeVision
from .protocol import RuntimeMissingError, VisionRuntime
from .tensorrt_engine import TensorRTRTXVision, TensorRTVision

RUNTIMES: dict[str, Callable[..., VisionRuntime]] = {
    "tensorrt": TensorRTVision,
    "tensorrt-rtx": TensorRTRTXVision,
    "onnxruntime": OnnxRuntimeVision,
}
"""By name, the preferred first: an engine built for this device, then ONNX Runtime by its best provider."""
WITH_PROVIDERS = "onnxruntime"
"""The runtime that has execution providers; ``onnxruntime-cuda`` names both at once."""


def open_runtime(
    bundle: Bundle,
    *,
    name: str | None = None,
    threads: int | None = None,
    provider: str | None = None,
    shared_weights: bool = False,
) -> VisionRuntime:
    """Load a bundle's vision tower on the best runtime that this machine has.

    Args:
        bundle: a verified bundle (:func:`laco_export.bundle.open_bundle`).
        name: a name of :data:`RUNTIMES` to insist on, or ``onnxruntime-<provider>``.
        threads: CPU threads; default: the cores that this process may use.
        provider: ONNX Runtime's execution provider to insist on, which is to insist on ONNX Runtime too.
        shared_weights: of :class:`OnnxRuntimeVision`, where that is taken.

    Returns:
        the runtime; its ``passed_over`` says why each better one was not taken.

    Raises:
        UsageError: an unknown name.
        RuntimeMissingError: none can be used; the message says why for each.
    """
    if name is not None and name not in RUNTIMES and name.startswith(f"{WITH_PROVIDERS}-"):
        name, provider = WITH_PROVIDERS, name.removeprefix(f"{WITH_PROVIDERS}-")
    if name is not None and name not in RUNTIMES:
        allowed = ", ".join((*RUNTIMES, f"{WITH_PROVIDERS}-<provider>, as {WITH_PROVIDERS}-cuda"))
        raise UsageError("there is no such runtime", given=name, allowed=allowed)
    if provider is not None and name not in (None, WITH_PROVIDERS):
        raise UsageError("only ONNX Runtime has execution providers", given=f"{name} with {provider}")
    if provider is not None:
        name = WITH_PROVIDERS
    refusals = []
    for candidate in [name] if name else RUNTIMES:
        chosen = {"provider": provider} if provider is not None else {}
        if shared_weights and candidate == WITH_PROVIDERS:
            chosen["shared_weights"] = True
        try:
            runtime = RUNTIMES[candidate](bundle, threads=threads, **chosen)
        except RuntimeMissingError as error:
            refusals.append(error)
        else:
            runtime.passed_over = (*(error.failed for error in refusals), *runtime.passed_over)
            return runtime
    if len(refusals) == 1:
        raise refusals[0]
    todo = "; or ".join(error.todo for error in refusals if error.todo)
    raise RuntimeMissingError(
        "no runtime can be used here", given="; ".join(error.failed for error in refusals), todo=todo or None
    )


__all__ = [
    "RUNTIMES",
    "OnnxRuntimeVision",
    "RuntimeMissingError",
    "TensorRTRTXVision",
    "TensorRTVision",
    "VisionRuntime",
    "open_runtime",
]
