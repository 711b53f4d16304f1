"""A bundle's graph with its block boundaries marked as outputs, run by ONNX Runtime on the CPU.

A second graph, in memory: a runtime does not fuse across marked tensors, so what it computes can differ from the
shipped graph in the last digits. The weights stay where they are.
"""

from __future__ import annotations

import numpy as np

from laco_export.bundle import Bundle
from laco_export.errors import ExportError, telling_line
from laco_export.onnx_session import open_session
from laco_export.verified_files import BundleChangedError

from ..runtimes import RuntimeMissingError
from ..store.processor_form import form_for_processor, multiplies_exactly


def boundary_tensors(bundle: Bundle, pixel_values: np.ndarray, names: list[str]) -> dict[str, np.ndarray]:
    """The hidden states of each boundary, float32 ``[n, tokens, C]``.

    Args:
        pixel_values: float32 ``[n, 3, H, W]``.
        names: boundaries, as the golden file names them.

    Raises:
        RuntimeMissingError: onnx or ONNX Runtime is not installed, or the latter cannot run this precision.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401 - asked for before the graph is read
    except ImportError as error:
        raise RuntimeMissingError(
            f"--blocks needs {error.name}, which is not installed", todo="pip install onnx onnxruntime"
        ) from None
    bundle, _ = form_for_processor(bundle)
    graph = next(graph for graph in bundle.manifest.vision.graphs if graph.batch == 1)
    proto = onnx.load_model_from_string(bundle.read(graph.file))  # which leaves the external weights where they are
    inferred = onnx.shape_inference.infer_shapes(proto)
    value_infos = {value.name: value for value in inferred.graph.value_info}
    if missing := [name for name in names if name not in value_infos]:
        raise ExportError(f"'{graph.file}' does not have the boundaries of its golden file", given=", ".join(missing))
    proto.graph.output.extend(value_infos[name] for name in names)
    try:
        exact = not multiplies_exactly(bundle)
        with bundle.unchanged(bundle.manifest.vision.weights):
            session = open_session(proto.SerializeToString(), weights_folder=bundle.path, exact_products=exact)
    except BundleChangedError:
        raise
    except Exception as error:  # onnxruntime raises many kinds
        raise RuntimeMissingError(
            f"ONNX Runtime's CPU provider cannot run '{graph.file}' with its blocks marked",
            given=telling_line(error),
        ) from error
    tensors: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for picture in pixel_values:
        for name, hidden in zip(names, session.run(names, {graph.input.name: picture[None]})):
            tensors[name].append(hidden.astype(np.float32).reshape(-1, hidden.shape[-1]))  # [1, …, C] -> [tokens, C]
    return {name: np.stack(hidden_states) for name, hidden_states in tensors.items()}
