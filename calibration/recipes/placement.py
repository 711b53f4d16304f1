"""What every recipe is given, and what it says of itself."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass

import onnx_graphsurgeon as gs

from ..linears import block_of, is_linear
from ..number_formats import NumberFormat


@dataclass(frozen=True)
class Placement:
    """One calibration's decision.

    Attributes:
        number_format: of the chosen Linear layers.
        blocks: the blocks whose Linear layers are quantised.
        ranges: Linear input → the range that is kept of it.
        kept_fp32: nodes that stay FP32 in a half-precision graph, by name → reason; the recipe adds the Q/DQ nodes that
            serve them.
    """

    number_format: NumberFormat
    blocks: Collection[str]
    ranges: Mapping[str, tuple[float, float]]
    kept_fp32: Mapping[str, str]

    def linears(self, graph: gs.Graph) -> list[gs.Node]:
        """The nodes of ``graph`` to quantise, in its order."""
        return [node for node in graph.nodes if is_linear(node) and block_of(node.name) in self.blocks]


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
    """

    name: str
    formats: Mapping[str, NumberFormat]
    base: str
    target: str
    half_scales: bool
    place: Callable[[gs.Graph, Placement], None]
    opset: Mapping[str, int]
