"""What of a graph is quantised, and to which ranges: one calibration's decision, whatever the form."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from laco_export.number_formats import NumberFormat

from ..graph.linear_layers import MAX_ATTENTION_TOKENS, block_of, is_linear, product_of_attention

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs


@dataclass(frozen=True)
class Placement:
    """One calibration's decision.

    Attributes:
        number_format: of the chosen Linear layers.
        blocks: the blocks whose Linear layers are quantised.
        ranges: Linear input → the range that is kept of it.
        kept_fp32: nodes that stay FP32 in a half-precision graph, by name → reason; placing adds the Q/DQ nodes that
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
        inside = ((node, product_of_attention(node)) for node in graph.nodes if block_of(node.name) in self.blocks)
        return [node for node, product in inside if product is not None and product.tokens <= MAX_ATTENTION_TOKENS]

    def node_names(self, graph: gs.Graph) -> list[str]:
        """The names of all MatMuls of ``graph`` to quantise: Linear layers, then attention's."""
        return [node.name for node in (*self.linears(graph), *self.products(graph))]
