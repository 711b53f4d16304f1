"""What a graph may look like for whoever reads it: opset, IR version, operators, precisions.

One entry per target; :mod:`.rewrites` gives each target its forms and :mod:`.structural_gates` holds graphs to this
table.
"""

from __future__ import annotations

from dataclasses import dataclass

from .operator_support import TENSORRT_10_3, TENSORRT_10_14


@dataclass(frozen=True)
class Target:
    """A reader of graphs.

    Attributes:
        name: as ``--target`` spells it.
        opsets: opsets that it reads and that are written, ascending; the last is the default.
        max_ir: the newest ONNX IR version that it reads.
        precisions: of the vision graph, the default first.
        compiled: TensorRT's compiler is its gate.
        operators: of ONNX's own domain that it reads; None: all of the opset.
    """

    name: str
    opsets: tuple[int, ...]
    max_ir: int
    precisions: tuple[str, ...]
    compiled: bool
    operators: frozenset[str] | None = None


TARGETS: dict[str, Target] = {
    target.name: target
    for target in (
        # 18 is the oldest opset that torch's exporter writes without conversion.
        Target("trt10.3", (18, 19, 20), 10, ("fp16", "bf16", "fp32"), True, TENSORRT_10_3),
        Target("trt10.14", (23,), 11, ("fp16", "bf16", "fp32"), True, TENSORRT_10_14),
        # ONNX Runtime's CPU provider has no half arithmetic: it would upcast every tensor, at FP32's speed.
        Target("ort-cpu", (23,), 11, ("fp32",), False),
    )
}
DEFAULT_TARGET = "trt10.3"
