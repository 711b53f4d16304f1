"""The compile gate of a graph for TensorRT: it takes each graph and reads the chosen products, no others, as INT8.

TensorRT picks an INT8 (or FP8) kernel where both inputs of a product come straight from a dequantisation. A cast or a
reshape in between, or one plain input, and it silently computes in half: so the parsed network is looked at.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib import import_module
from pathlib import Path

from laco_export.bundle import Vision
from laco_export.exporter import compile_gate

from .context import CalibrationContext
from .errors import CalibrationError


def compile_quantized_graphs(context: CalibrationContext, vision: Vision, chosen: Collection[str]) -> list[dict]:
    """Build an engine of each graph, where TensorRT is installed and the target is its, and throw it away.

    Args:
        chosen: the MatMuls that are in eight bits.

    Returns:
        a record a graph; empty where nothing was compiled, and the context's notes say why.

    Raises:
        CalibrationError: the parsed network has other eight-bit products than were chosen.
        ExportError: TensorRT refuses a graph.
    """
    if not context.half:
        return []
    wanted = context.options.compile
    builder = compile_gate.available() if wanted else None
    if builder is None:
        context.notes.append("the graphs were not compiled: " + ("no TensorRT" if wanted else "--no-compile"))
        return []
    with context.steps.step(f"compile with {builder}", len(vision.graphs)) as advance:
        if not context.weights_only:
            for graph in vision.graphs:
                require_chosen(quantized_matmuls(context.folder / graph.file, builder), chosen, graph.file)
        return compile_gate.compile_graphs(context.folder, vision.graphs, builder, advance)


def require_chosen(products: Mapping[str, tuple], chosen: Collection[str], file: str) -> None:
    """Raise :class:`CalibrationError` unless the chosen products, and no others, have two inputs in eight bits.

    Args:
        products: what :func:`quantized_matmuls` gives.
    """
    wrong = [name for name, kinds in products.items() if any(kinds) != (name in chosen) or any(kinds) != all(kinds)]
    missing = [name for name in chosen if name not in products]
    if wrong or missing:
        raise CalibrationError(
            f"TensorRT reads other products of {file} as eight-bit ones than were chosen",
            given=", ".join([*wrong, *missing][:5]),
            todo="report this with the checkpoint's config.json; nothing was written",
        )


def quantized_matmuls(path: Path, library: str | None = None) -> dict[str, tuple[str | None, str | None]]:
    """Each matrix product of the network: node name → what its inputs are dequantised from, None where they are not.

    Args:
        path: an ONNX file, its weights beside it.
        library: ``tensorrt_rtx`` or ``tensorrt``; default: the one that can be used here.

    Raises:
        CalibrationError: the parser refuses the graph.
    """
    trt = import_module(library or compile_gate.available())
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
    if not parser.parse_from_file(str(path)):
        raise CalibrationError(f"TensorRT does not read {Path(path).name}", given=str(parser.get_error(0).desc()))
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    writer = {layer.get_output(i).name: layer for layer in layers for i in range(layer.num_outputs)}
    return {
        layer.name: tuple(_source(trt, writer, layer.get_input(index)) for index in range(2))
        for layer in layers
        if layer.type == trt.LayerType.MATRIX_MULTIPLY
    }


def _source(trt, writer: dict, tensor) -> str | None:
    """The type that a product's input is dequantised from.

    The parser itself puts a shuffle between a two-dimensional weight and its product, to give it a batch axis; TensorRT
    moves that out of the way.
    """
    layer = writer.get(tensor.name)
    while layer is not None and layer.type == trt.LayerType.SHUFFLE and writer.get(layer.get_input(0).name):
        layer = writer[layer.get_input(0).name]
    if layer is None or layer.type != trt.LayerType.DEQUANTIZE:
        return None
    return layer.get_input(0).dtype.name
