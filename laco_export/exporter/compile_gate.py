"""The compile gate: does a TensorRT parse and build the exported graph?

TensorRT-RTX builds without a GPU and is tried first; standard TensorRT needs a device. The engine is thrown away: a
device builds its own (``laco-engine build``).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from ..bundle import VisionGraph
from ..console import Steps
from ..errors import ExportError
from .depth_names import DepthNames
from .engine_builder import EngineBuildError, EngineRequest, build_engine
from .options import ExportOptions

GATE_TIMEOUT = 600.0
"""Seconds: a 24-block FP16 encoder takes seconds on two cores; a builder that hangs must not hang the export."""


@dataclass(frozen=True)
class CompiledGraphs:
    """What the gate built.

    Attributes:
        records: one a graph, as :func:`compile_graphs` gives them; empty where nothing was built.
        notes: what was built, or why nothing was.
    """

    records: list[dict]
    notes: tuple[str, ...] = ()


def compile_if_possible(
    folder: Path, graphs: Sequence[VisionGraph], options: ExportOptions, steps: Steps, names: DepthNames
) -> CompiledGraphs:
    """Build the graphs, where the target is TensorRT, one is installed, and the user has not turned it off.

    Args:
        names: of the depth that they are of.

    Raises:
        ExportError: a graph was refused.
    """
    if not options.reader.compiled:
        return CompiledGraphs([])
    builder = available() if options.compile else None
    if builder is None:
        missing = "no TensorRT-RTX, and no TensorRT with a GPU, is installed"
        return CompiledGraphs([], (f"the graph was not compiled: {missing if options.compile else '--no-compile'}",))
    with steps.step(names.step(f"compile with {builder}")):
        records = compile_graphs(folder, graphs, builder)
    built = "{graph} was built by {builder} {version} in {seconds} s"
    return CompiledGraphs(records, tuple(built.format(**record) for record in records))


def available() -> str | None:
    """The builder that can be used here, ``tensorrt_rtx`` or ``tensorrt``, or None."""
    if find_spec("tensorrt_rtx"):
        return "tensorrt_rtx"
    if find_spec("tensorrt"):
        import torch

        return "tensorrt" if torch.cuda.is_available() else None
    return None


def compile_graphs(
    folder: Path, graphs: Sequence[VisionGraph], builder: str, advance: Callable[[], None] = lambda: None
) -> list[dict]:
    """Build an engine of each of a bundle's graphs and throw it away.

    Returns:
        what :func:`compile_graph` says of each, with its file's name as ``graph``.

    Raises:
        ExportError: a graph was refused.
    """
    compiled = []
    for graph in graphs:
        compiled.append({"graph": graph.file, **compile_graph(folder / graph.file, builder)})
        advance()
    return compiled


def compile_graph(path: Path, builder: str) -> dict:
    """Build an engine of ``path`` and throw it away.

    Returns:
        ``{"builder", "version", "seconds", "plan_bytes"}``.

    Raises:
        ExportError: it was refused, crashed or took longer than :data:`GATE_TIMEOUT`.
    """
    try:
        built = build_engine(EngineRequest(str(path), builder), timeout=GATE_TIMEOUT)
    except EngineBuildError as error:
        raise ExportError(
            f"{builder} does not build the exported graph",
            given=error.given,
            todo="report this; --no-compile exports without this gate",
        ) from None
    return {
        "builder": builder,
        "version": built.version,
        "seconds": round(built.seconds, 2),
        "plan_bytes": built.plan_bytes,
    }
