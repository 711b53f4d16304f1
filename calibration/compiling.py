"""The compile gate of recipe tensorrt: TensorRT takes each graph and reads the chosen products, no others, as INT8."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from laco_export.bundle import Vision
from laco_export.exporter import compile_gate

from .errors import CalibrationError
from .parsed_network import quantized_matmuls
from .run import Run


def compile_graphs(run: Run, vision: Vision, chosen: Collection[str]) -> list[dict]:
    """Build an engine of each graph, where TensorRT is installed and the recipe is for it, and throw it away.

    Args:
        chosen: the MatMuls that are in eight bits.

    Returns:
        a record a graph; empty where nothing was compiled, and the run's notes say why.

    Raises:
        CalibrationError: the parsed network has other eight-bit products than were chosen.
        ExportError: TensorRT refuses a graph.
    """
    if not run.half:
        return []
    builder = compile_gate.available() if run.options.compile else None
    if builder is None:
        run.notes.append("the graphs were not compiled: " + ("no TensorRT" if run.options.compile else "--no-compile"))
        return []
    compiled = []
    with run.steps.step(f"compile with {builder}", len(vision.graphs)) as advance:
        for graph in vision.graphs:
            path = run.folder / graph.file
            if run.number_format.activations is not None:
                require_chosen(quantized_matmuls(path, builder), chosen, graph.file)
            compiled.append({"graph": graph.file, **compile_gate.compile_graph(path, builder)})
            advance()
    return compiled


def require_chosen(found: Mapping[str, tuple], chosen: Collection[str], file: str) -> None:
    """Raise :class:`CalibrationError` unless the chosen products, and no others, have two inputs in eight bits.

    Args:
        found: what :func:`~.parsed_network.quantized_matmuls` gives.
    """
    wrong = [name for name, kinds in found.items() if any(kinds) != (name in chosen) or any(kinds) != all(kinds)]
    missing = [name for name in chosen if name not in found]
    if wrong or missing:
        raise CalibrationError(
            f"TensorRT reads other products of {file} as eight-bit ones than were chosen",
            given=", ".join([*wrong, *missing][:5]),
            todo="report this with the checkpoint's config.json; nothing was written",
        )
