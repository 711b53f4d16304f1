"""What every recipe is given, and what it says of itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from laco_export.number_formats import NumberFormat

from ..graph.linear_layers import MAX_ATTENTION_TOKENS, block_of, is_linear, product_of_attention


@dataclass(frozen=True)
class Placement:
    """One calibration's decision.

    Attributes:
        number_format: of the chosen Linear layers.
        blocks: the blocks whose Linear layers are quantised.
        ranges: Linear input → the range that is kept of it.
        kept_fp32: nodes that stay FP32 in a half-precision graph, by name → reason; the recipe adds the Q/DQ nodes that
            serve them.
        attention: attention's MatMuls too, where the sequence is short enough.
    """

    number_format: NumberFormat
    blocks: Collection[str]
    ranges: Mapping[str, tuple[float, float]]
    kept_fp32: Mapping[str, str]
    attention: bool = False

    def linears(self, graph: gs.Graph) -> list[gs.Node]:
        """The nodes of ``graph`` to quantise, in its order."""
        return [node for node in graph.nodes if is_linear(node) and block_of(node.name) in self.blocks]

    def products(self, graph: gs.Graph) -> list[gs.Node]:
        """Attention's MatMuls to quantise, in the graph's order; none without ``attention``."""
        if not self.attention:
            return []
        found = ((node, product_of_attention(node)) for node in graph.nodes if block_of(node.name) in self.blocks)
        return [node for node, product in found if product is not None and product.tokens <= MAX_ATTENTION_TOKENS]


@dataclass(frozen=True)
class Recipe:
    """A form of quantised graph.

    Attributes:
        formats: ``int8``, ``fp8``, ``w8``, ``w4`` → the number format; what is not there the recipe does not offer.
        base: precision of everything that is not quantised.
        target: whose graph it is, as ``laco-export --target`` spells it.
        half_scales: scales are stored in half precision.
        place: edits a graph in place.
        opset: number format → the opset that its operators need.
        takes_attention: it can quantise attention's MatMuls.
    """

    name: str
    formats: Mapping[str, NumberFormat]
    base: str
    target: str
    half_scales: bool
    place: Callable[[gs.Graph, Placement], None]
    opset: Mapping[str, int]
    takes_attention: bool = False
