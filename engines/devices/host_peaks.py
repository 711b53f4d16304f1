"""What this machine's CPU can do at best, measured, since no data sheet says it for a shared core.

The peaks of matrix products are measured through ONNX Runtime, whose kernels the encoder runs on; the bandwidth by dot
products over arrays that no cache holds.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np

from laco_export.onnx_session import open_session
from laco_export.timing import TimedRun, time_run

_SIDE = 1536  # of a product: 7.2 GFLOP, long enough to time and small enough for a small board
_ARRAY_BYTES = 64 << 20
_REPEATS = 5


@dataclass(frozen=True)
class HostPeaks:
    """Measured on this machine with the given threads; the best of some tries each.

    Attributes:
        flops: FP32 operations per second of a large matrix product.
        int8_ops: the same of uint8 by int8, None where it was not measured.
        bandwidth: bytes read per second.
        cpu_share: CPU time over wall time and threads of the least of these measurements: where it is well below 1, the
            processor was busy with something else, and can do more than was measured.
    """

    flops: float
    bandwidth: float
    threads: int
    int8_ops: float | None = None
    cpu_share: float = 1.0


def measure_peaks(threads: int) -> HostPeaks:
    """Measure them all, in about two seconds.

    Raises:
        ModuleNotFoundError: ``onnx`` or ``onnxruntime`` is not installed.
    """
    values = np.random.default_rng(0)
    floats = {name: values.standard_normal((_SIDE, _SIDE), np.float32) for name in "ab"}
    numbers = {
        "a": values.integers(0, 256, (_SIDE, _SIDE), np.uint8),
        "b": values.integers(-128, 128, (_SIDE, _SIDE), np.int8),
        # Written down, since some ONNX Runtimes crash where they make "b" uint8 and have to add one.
        "a_zero": np.zeros((), np.uint8),
        "b_zero": np.zeros((), np.int8),
    }
    flops, product_share = _matrix_product("MatMul", floats, threads)
    int8_ops, integer_share = _matrix_product("MatMulInteger", numbers, threads)
    bandwidth, reading_share = _bandwidth(threads)
    share = min(product_share, integer_share, reading_share)
    return HostPeaks(flops=flops, bandwidth=bandwidth, threads=threads, int8_ops=int8_ops, cpu_share=share)


def _matrix_product(operator: str, factors: dict[str, np.ndarray], threads: int) -> tuple[float, float]:
    """Operations per second, and the share of the processor that they had.

    All factors but the first are constants, which ONNX Runtime packs once, like weights.
    """
    from onnx import helper, numpy_helper

    info = lambda name, dtype: helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), [_SIDE, _SIDE]
    )
    left, *_ = factors.values()
    graph = helper.make_graph(
        [helper.make_node(operator, list(factors), ["c"])],
        "peak",
        [info("a", left.dtype)],
        [info("c", np.float32 if operator == "MatMul" else np.int32)],
        [numpy_helper.from_array(array, name) for name, array in factors.items() if name != "a"],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    session = open_session(model.SerializeToString(), threads=threads)
    fastest = _fastest(lambda: session.run(None, {"a": left}))
    return 2 * _SIDE**3 / (fastest.ms / 1000), fastest.cpu_ratio / threads


def _bandwidth(threads: int) -> tuple[float, float]:
    arrays = [np.ones(_ARRAY_BYTES // 4, np.float32) for _ in range(threads)]
    with ThreadPoolExecutor(threads) as pool:  # numpy's dot leaves the interpreter's lock alone
        fastest = _fastest(lambda: list(pool.map(lambda array: np.dot(array, array), arrays)))
    return threads * _ARRAY_BYTES / (fastest.ms / 1000), fastest.cpu_ratio / threads


def _fastest(run: Callable[[], object]) -> TimedRun:
    run()  # the first warms up
    return min((time_run(run) for _ in range(_REPEATS)), key=lambda timed: timed.ms)
