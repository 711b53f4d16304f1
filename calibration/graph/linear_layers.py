"""Where the Linear layers of a vision graph are: the block of each, its input, and what may be folded into what.

The graph's nodes carry PyTorch's module paths (:mod:`laco_export.exporter.tracing`), so a block is known by its name:
``vision_model.encoder.encoder.layers.3``, ``vision_model.compressors.block_12`` (of a path of several merges
``vision_model.compressors.path_6_18.block_6``), ``projector``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

_MERGES = "vision_model.compressors."
_BLOCK = re.compile(
    r"vision_model\.compressors\.(?:path[_\d]+\.)?block_\d+|vision_model\.encoder\..*?\blayers?\.\d+|projector"
)

BEFORE, MERGE, AFTER, PROJECTOR = "before the merge", "merge", "after the merge", "projector"
"""Of a graph with one merge; with several they are counted: :func:`_region`."""

MAX_ATTENTION_TOKENS = 512
"""TensorRT's fused INT8 attention takes sequences up to 512; a merge may bring a block below that."""


@dataclass(frozen=True)
class LinearLayer:
    """A MatMul with a constant matrix.

    Attributes:
        node: the node's name, ``…q_proj/MatMul``.
        block: the module path of the block that it belongs to.
        source: the name of the tensor that it reads, ``[…, C]``.
        tokens: rows of one picture.
    """

    node: str
    block: str
    source: str
    tokens: int


@dataclass(frozen=True)
class Product:
    """One of attention's two MatMuls, of queries by keys or of weights by values.

    Attributes:
        sources: the names of the tensors that it reads, as it reads them.
        tokens: S, the length of the sequence.
    """

    node: str
    block: str
    sources: tuple[str, str]
    tokens: int


@dataclass(frozen=True)
class Block:
    """A block of the encoder, the merge, or the projector.

    Attributes:
        region: :data:`BEFORE`, :data:`MERGE`, :data:`AFTER` or :data:`PROJECTOR`; where a path has several merges,
            which of them it is, or which it stands between.
        products: of its attention, where they stand in the graph as MatMuls.
    """

    name: str
    region: str
    linears: tuple[LinearLayer, ...]
    products: tuple[Product, ...] = ()

    @property
    def is_merge(self) -> bool:
        return is_merge(self.name)


def block_of(node_name: str) -> str | None:
    """The block that a node belongs to by its name; None for embeddings, the final norm and reshapes in between."""
    path = _BLOCK.match(node_name)
    return path[0] if path else None


def is_merge(block: str) -> bool:
    """Whether a block's name is a merge's."""
    return block.startswith(_MERGES)


def is_linear(node: gs.Node) -> bool:
    """A MatMul by a constant matrix ``[in, out]`` inside a block."""
    return (
        node.op == "MatMul"
        and _is_constant(node.inputs[1])
        and len(node.inputs[1].shape) == 2
        and block_of(node.name) is not None
    )


def _is_constant(tensor: gs.Tensor) -> bool:
    import onnx_graphsurgeon as gs

    return isinstance(tensor, gs.Constant)


def product_of_attention(node: gs.Node) -> Product | None:
    """What ``node`` is where it multiplies queries by keys, or softmax's weights by values, inside a block."""
    block = block_of(node.name)
    if node.op != "MatMul" or block is None or any(map(_is_constant, node.inputs)):
        return None
    left = node.inputs[0]
    weighs = bool(left.inputs) and left.inputs[0].op == "Softmax"
    scores = any(reader.op == "Softmax" for reader in node.outputs[0].outputs)
    if not (weighs or scores):
        return None
    tokens = left.shape[-1] if weighs else node.outputs[0].shape[-1]
    return Product(node.name, block, (left.name, node.inputs[1].name), tokens)


def find_blocks(graph: gs.Graph) -> list[Block]:
    """The blocks that hold Linear layers, in the order of the computation."""
    members: dict[str, list[LinearLayer]] = {}
    products: dict[str, list[Product]] = {}
    for node in graph.toposort().nodes:
        product = product_of_attention(node)
        if product is not None:
            products.setdefault(product.block, []).append(product)
        if not is_linear(node):
            continue
        source = node.inputs[0]
        tokens = 1
        for size in source.shape[1:-1]:
            tokens *= size
        block = block_of(node.name)
        members.setdefault(block, []).append(LinearLayer(node.name, block, source.name, tokens))
    regions = _regions(graph)
    return [
        Block(name, regions[name], tuple(linears), tuple(products.get(name, ()))) for name, linears in members.items()
    ]


def _regions(graph: gs.Graph) -> dict[str, str]:
    """By block its region; of the blocks without a Linear layer too (an average pooling is a merge)."""
    names = [name for name in dict.fromkeys(block_of(node.name) for node in graph.nodes) if name is not None]
    merges = sum(map(is_merge, names))
    regions, passed = {}, 0
    for name in names:
        passed += is_merge(name)
        regions[name] = _region(name, passed, merges)
    return regions


def _region(name: str, passed: int, merges: int) -> str:
    """Of a block with ``passed`` of a graph's ``merges`` behind it (its own, where it is one)."""
    if name == "projector":
        return PROJECTOR
    if merges < 2:
        return MERGE if is_merge(name) else AFTER if passed else BEFORE
    if is_merge(name):
        return f"merge {passed}"
    if passed in (0, merges):
        return f"after merge {passed}" if passed else "before merge 1"
    return f"between merges {passed} and {passed + 1}"


def sources_of(blocks: list[Block]) -> dict[str, list[LinearLayer]]:
    """Tensor name → the Linear layers that read it: they share one set of quantisation parameters."""
    readers: dict[str, list[LinearLayer]] = {}
    for block in blocks:
        for linear in block.linears:
            readers.setdefault(linear.source, []).append(linear)
    return readers


def residuals_of_merges(graph: gs.Graph) -> dict[str, str]:
    """The outputs of the merges' residual branches, which no Linear reads (they are watched for the record), each with
    its merge's region."""
    regions, residuals = _regions(graph), {}
    for node in graph.nodes:
        name = node.name.partition("/")[0]
        if name.startswith(_MERGES) and name.endswith(".residual") and any(out.name == name for out in node.outputs):
            residuals[name] = regions[block_of(name)]
    return residuals
