"""What a graph must look like before anything is built from it."""

from __future__ import annotations

from pathlib import Path

import onnx

from ..errors import ExportError
from .operator_support import NEVER_STATIC
from .targets import DEFAULT_TARGET, TARGETS, Target


def check_structure(path: Path, target: Target = TARGETS[DEFAULT_TARGET]) -> None:
    """Check an ONNX file with its external data against what ``target`` reads.

    Raises:
        ExportError: the ONNX checker or strict shape inference objects, a dimension is dynamic, an operator is refused,
            or the opset or IR version is newer than the target reads.
    """
    try:
        onnx.checker.check_model(str(path), full_check=True)
        proto = onnx.load(str(path), load_external_data=False)
        inferred = onnx.shape_inference.infer_shapes(proto, check_type=True, strict_mode=True, data_prop=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise _refused(path, target, f"the ONNX checker objects: {str(error).strip().splitlines()[0][:300]}") from error
    problems = [
        *_version_problems(proto, target),
        *_operator_problems(proto.graph, target),
        *_shape_problems(inferred.graph),
    ]
    if problems:
        raise _refused(path, target, "; ".join(problems[:5]))


def _version_problems(proto: onnx.ModelProto, target: Target) -> list[str]:
    problems = []
    if proto.ir_version > target.max_ir:
        problems.append(f"IR version {proto.ir_version}, at most {target.max_ir} is read")
    for opset in proto.opset_import:
        if opset.domain not in ("", "ai.onnx"):
            problems.append(f"operators of domain {opset.domain}")
        elif opset.version > target.opsets[-1]:
            problems.append(f"opset {opset.version}, at most {target.opsets[-1]} is read")
    return problems


def _operator_problems(graph: onnx.GraphProto, target: Target) -> list[str]:
    problems = []
    for node in graph.node:
        if node.op_type in NEVER_STATIC:
            problems.append(f"{node.op_type} at {node.name}, which a graph of static shapes has no need of")
        elif target.operators is not None and node.op_type not in target.operators:
            problems.append(f"{node.op_type} at {node.name}, which {target.name} does not read")
    return problems


def _shape_problems(graph: onnx.GraphProto) -> list[str]:
    problems, shapes = [], {}
    for value in [*graph.input, *graph.output, *graph.value_info]:
        dims = value.type.tensor_type.shape.dim
        shapes[value.name] = dims
        if any(not dim.HasField("dim_value") or dim.dim_value < 1 for dim in dims):
            problems.append(f"a dynamic or empty dimension in {value.name}")
    for node in graph.node:
        problems += [f"no shape could be inferred for {name}" for name in node.output if name and name not in shapes]
    return problems


def _refused(path: Path, target: Target, reason: str) -> ExportError:
    others = ", ".join(f"--target {name}" for name in TARGETS if name != target.name)
    return ExportError(
        f"the exported graph {path.name} is not fit for its target: {reason}",
        allowed=f"a static graph of the operators that {target.name} reads (laco_export/exporter/operator_support.py "
        f"lists them), opset ≤ {target.opsets[-1]}, IR ≤ {target.max_ir}",
        todo=f"try another reader ({others}) where the device allows it, or report this with the checkpoint's "
        "config.json; nothing was written",
    )
