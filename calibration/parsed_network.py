"""How TensorRT's own parser reads a Q/DQ graph: which matrix products it will see as eight-bit ones.

TensorRT picks an INT8 (or FP8) kernel where both inputs of a product come straight from a dequantisation. A cast or a
reshape in between, or one plain input, and it silently computes in half: so the parsed network is looked at.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from laco_export.exporter.compile_gate import available

from .errors import CalibrationError


def quantized_matmuls(path: Path, library: str | None = None) -> dict[str, tuple[str | None, str | None]]:
    """Each matrix product of the network: node name → what its inputs are dequantised from, None where they are not.

    Args:
        path: an ONNX file, its weights beside it.
        library: ``tensorrt_rtx`` or ``tensorrt``; default: the one that can be used here.

    Raises:
        CalibrationError: the parser refuses the graph.
    """
    trt = import_module(library or available())
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, trt.Logger(trt.Logger.ERROR))
    if not parser.parse_from_file(str(path)):
        raise CalibrationError(f"TensorRT does not read {Path(path).name}", given=str(parser.get_error(0).desc()))
    layers = [network.get_layer(index) for index in range(network.num_layers)]
    writer = {layer.get_output(i).name: layer for layer in layers for i in range(layer.num_outputs)}
    found = {}
    for layer in layers:
        if layer.type == trt.LayerType.MATRIX_MULTIPLY:
            kinds = tuple(_source(trt, writer, layer.get_input(index)) for index in range(2))
            found[layer.name] = kinds
    return found


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
