"""What each block gains in time: cut out of the graph and run alone, as it is and in eight bits, in turn.

Blocks of equal shapes do equal work, whatever their weights, so one of each kind is measured for all.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_graphsurgeon as gs

from laco_export.onnx_session import open_session
from laco_export.timing import Series, interleave

from ..graph.linear_layers import Block, block_of
from ..quantizing import Placement, QuantizedForm
from .choice import BlockTime

_REPEATS, _BURST = 15, 3
"""Samples of each session, and how many of them in a row."""


def measure_blocks(
    graph: gs.Graph,
    blocks: Sequence[Block],
    form: QuantizedForm,
    placement: Placement,
    *,
    ir_version: int,
    exact_products: bool = True,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, BlockTime]:
    """Block → its time in FP32 and in eight bits on ONNX Runtime's CPU provider.

    Args:
        placement: with the ranges and the number format; its ``blocks`` are not read.
        exact_products: of :func:`~laco_export.onnx_session.session_options`.
    """
    times: dict[str, BlockTime] = {}
    measured: dict[tuple, BlockTime] = {}
    for block in blocks:
        base = cut_block(graph, block.name)
        kind = tuple((node.op, *(str(tensor.shape) for tensor in node.inputs)) for node in base.nodes)
        if kind not in measured:
            swapped = base.copy()
            form.place(swapped, Placement(placement.number_format, (block.name,), placement.ranges, {}))
            sessions = {"base": base, "eight_bit": swapped}
            series = time_sessions(
                {
                    name: open_session(serialized(part, ir_version), exact_products=exact_products)
                    for name, part in sessions.items()
                }
            )
            measured[kind] = BlockTime(**{name: part.quantile(0.5) for name, part in series.items()})
        times[block.name] = measured[kind]
        advance()
    return times


def cut_block(graph: gs.Graph, name: str) -> gs.Graph:
    """One block as a graph of its own; the original stays as it is."""
    part = graph.copy()
    nodes = list(part.toposort().nodes)
    indices = [index for index, node in enumerate(nodes) if block_of(node.name) == name]
    span = nodes[min(indices) : max(indices) + 1]
    inside = {tensor.name for node in span for tensor in node.outputs}
    inputs = {
        tensor.name: tensor
        for node in span
        for tensor in node.inputs
        if isinstance(tensor, gs.Variable) and not tensor.is_empty() and tensor.name not in inside
    }
    members = {id(node) for node in span}
    outputs = [
        tensor
        for node in span
        for tensor in node.outputs
        if any(id(reader) not in members for reader in tensor.outputs)
        or any(tensor is output for output in part.outputs)
    ]
    for tensor in inputs.values():
        tensor.inputs.clear()
    part.nodes, part.inputs, part.outputs = span, list(inputs.values()), outputs
    for tensor in outputs:
        tensor.outputs = [reader for reader in tensor.outputs if id(reader) in members]
    return part.cleanup().toposort()


def time_sessions(sessions: Mapping[str, object]) -> dict[str, Series]:
    """Sessions of ONNX Runtime's CPU provider in turn, on random inputs of their static shapes."""
    runs = {name: (_random_run(session), True) for name, session in sessions.items()}
    return interleave(runs, repeats=_REPEATS, warmup=1, burst=_BURST, settling_runs=1)


def _random_run(session) -> Callable[[], object]:
    random = np.random.default_rng(0)
    feeds = {tensor.name: random.standard_normal(tensor.shape).astype(np.float32) for tensor in session.get_inputs()}
    return lambda: session.run(None, feeds)


def serialized(graph: gs.Graph, ir_version: int) -> bytes:
    """A small graph as ONNX bytes, weights inside."""
    proto = gs.export_onnx(graph)
    proto.ir_version = ir_version
    return proto.SerializeToString()
