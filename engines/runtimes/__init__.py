"""Vision runtimes behind one protocol, without torch.

Adding one is one file with a class that takes ``(bundle, *, threads)`` and raises :class:`RuntimeMissingError` where it
cannot run, and one line in :data:`RUNTIMES`.
"""

from __future__ import annotations

from collections.abc import Callable

from laco_export.bundle import Bundle
from laco_export.errors import UsageError

from .onnx_runtime import OnnxRuntimeVision
from .protocol import RuntimeMissingError, VisionRuntime

RUNTIMES: dict[str, Callable[..., VisionRuntime]] = {"onnxruntime": OnnxRuntimeVision}
"""By name, the preferred first."""


def open_runtime(bundle: Bundle, *, name: str | None = None, threads: int | None = None) -> VisionRuntime:
    """Load a bundle's vision tower on the best runtime that this machine has.

    Args:
        bundle: a verified bundle (:func:`laco_export.bundle.open_bundle`).
        name: a name of :data:`RUNTIMES` to insist on.
        threads: CPU threads; default: the cores that this process may use.

    Raises:
        UsageError: an unknown name.
        RuntimeMissingError: none can be used; the message says why for each.
    """
    if name is not None and name not in RUNTIMES:
        raise UsageError("there is no such runtime", given=name, allowed=", ".join(RUNTIMES))
    refusals = []
    for candidate in [name] if name else RUNTIMES:
        try:
            return RUNTIMES[candidate](bundle, threads=threads)
        except RuntimeMissingError as error:
            refusals.append(error)
    if len(refusals) == 1:
        raise refusals[0]
    raise RuntimeMissingError("no runtime can be used here", given="; ".join(error.failed for error in refusals))


__all__ = ["RUNTIMES", "OnnxRuntimeVision", "RuntimeMissingError", "VisionRuntime", "open_runtime"]
