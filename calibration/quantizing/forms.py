"""What each form of a quantised graph offers, and for which targets.

The command's options ask here, before anything heavy is imported: how a form is written is in a module of its own,
which is imported when a graph is written.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from laco_export.number_formats import FP8, INT8, U8S7, U8S8, W4, W8, NumberFormat

from .placement import Placement

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs


@dataclass(frozen=True)
class QuantizedForm:
    """How a graph is quantised for a family of targets.

    Attributes:
        formats: ``int8``, ``fp8``, ``w8``, ``w4`` → the number format; what is not there the form does not offer.
        base: precision of everything that is not quantised.
        half_scales: scales are stored in half precision.
        place: edits a graph in place.
        opset: number format → the opset that its operators need.
        takes_attention: it can quantise attention's MatMuls.
        portable: the number format in the place of ``int8`` for processors whose fast product saturates; None where the
            target has none.
    """

    formats: Mapping[str, NumberFormat]
    base: str
    half_scales: bool
    place: Callable[[gs.Graph, Placement], None]
    opset: Mapping[str, int]
    takes_attention: bool = False
    portable: NumberFormat | None = None


def _place_for_cpu(graph: gs.Graph, placement: Placement) -> None:
    from .cpu import place_for_cpu

    place_for_cpu(graph, placement)


def _place_for_tensorrt(graph: gs.Graph, placement: Placement) -> None:
    from .tensorrt import place_for_tensorrt

    place_for_tensorrt(graph, placement)


INTEGER_KERNELS = QuantizedForm(
    {"int8": U8S8, "w8": W8, "w4": W4},
    base="fp32",
    half_scales=False,
    place=_place_for_cpu,
    opset={"int8": 10, "w8": 10, "w4": 10},
    portable=U8S7,
)

# ONNX: half-precision scales and float8 since opset 19, blocks of a weight and int4 since 21.
EXPLICIT_QDQ = QuantizedForm(
    {"int8": INT8, "fp8": FP8, "w8": W8, "w4": W4},
    base="fp16",
    half_scales=True,
    place=_place_for_tensorrt,
    opset={"int8": 19, "fp8": 19, "w8": 19, "w4": 21},
    takes_attention=True,
)

FORMS: dict[str, QuantizedForm] = {"trt10.3": EXPLICIT_QDQ, "trt10.14": EXPLICIT_QDQ, "ort-cpu": INTEGER_KERNELS}
"""Target, a name of :data:`~laco_export.exporter.targets.TARGETS` → the form of its quantised graphs."""
