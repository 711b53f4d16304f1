"""What each block gains in time: cut out of the graph and run alone, as it is and in eight bits, in turn.

Blocks of equal shapes do equal work, whatever their weights, so one of each kind is measured for all.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx_graphsurgeon as gs

from .choice import BlockTime
from .linears import Block, block_of
from .recipes import Placement, Recipe
from .timing import interleaved, open_session, runner_of, serialized

BURSTS = 5


def measure_blocks(
    graph: gs.Graph,
    blocks: Sequence[Block],
    recipe: Recipe,
    placement: Placement,
    *,
    ir_version: int,
    advance: Callable[[], None] = lambda: None,
) -> dict[str, BlockTime]:
    """Block → its time in FP32 and in eight bits on ONNX Runtime's CPU provider.

    Args:
        placement: with the ranges and the number format; its ``blocks`` are not read.
    """
    times: dict[str, BlockTime] = {}
    measured: dict[tuple, BlockTime] = {}
    for block in blocks:
        base = cut_block(graph, block.name)
        kind = tuple((node.op, *(str(tensor.shape) for tensor in node.inputs)) for node in base.nodes)
        if kind not in measured:
            swapped = base.copy()
            recipe.place(swapped, Placement(placement.number_format, (block.name,), placement.ranges, {}))
            sessions = {"base": base, "eight_bit": swapped}
            subjects = {name: runner_of(open_session(serialized(part, ir_version))) for name, part in sessions.items()}
            found = interleaved(subjects, bursts=BURSTS)
            measured[kind] = BlockTime(**{name: one.milliseconds for name, one in found.items()})
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
    given = {
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
    for tensor in given.values():
        tensor.inputs.clear()
    part.nodes, part.inputs, part.outputs = span, list(given.values()), outputs
    for tensor in outputs:
        tensor.outputs = [reader for reader in tensor.outputs if id(reader) in members]
    return part.cleanup().toposort()
