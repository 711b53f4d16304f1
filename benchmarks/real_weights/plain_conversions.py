"""FP16 and INT8 as the field's own converters make them: what one would run without this project.

Both start from the FP32 graph that ``laco-export --fp32`` writes, so that only the conversion differs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx

from laco_export.bundle import PIXEL_VALUES


def plain_half(source: Path, target: Path, *, keep_io_types: bool) -> None:
    """onnxconverter-common's ``convert_float_to_float16``, every argument but ``keep_io_types`` at its default."""
    try:
        from onnxconverter_common.float16 import convert_float_to_float16
    except ImportError:
        raise SystemExit("error: the plain FP16 is onnxconverter-common's; pip install onnxconverter-common") from None
    onnx.save(convert_float_to_float16(onnx.load(source), keep_io_types=keep_io_types), target)


def plain_int8(
    source: Path,
    target: Path,
    pictures: Iterable[np.ndarray],
    *,
    operators: Sequence[str] | None = None,
    symmetric: bool = False,
) -> None:
    """ONNX Runtime's ``quantize_static`` as its documentation recommends for x86-64.

    ``quant_pre_process`` first, then Q/DQ pairs, MinMax ranges, uint8 inputs with a zero point, int8 weights with one
    scale a channel.

    Args:
        pictures: ``pixel_values [1, 3, H, W]`` to calibrate on.
        operators: the types to quantise; None takes all that the quantiser knows.
        symmetric: int8 inputs whose zero point is 0, the only ones that TensorRT takes.
    """
    from onnxruntime.quantization import (
        CalibrationDataReader,
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):
        def __init__(self, pixel_values: Iterator[np.ndarray]):
            self._pixel_values = pixel_values

        def get_next(self) -> dict | None:
            picture = next(self._pixel_values, None)
            return None if picture is None else {PIXEL_VALUES: picture}

    with tempfile.TemporaryDirectory() as folder:
        prepared = Path(folder) / "prepared.onnx"
        quant_pre_process(source, prepared)
        quantize_static(
            prepared,
            target,
            Reader(iter(pictures)),
            quant_format=QuantFormat.QDQ,
            calibrate_method=CalibrationMethod.MinMax,
            per_channel=True,
            activation_type=QuantType.QInt8 if symmetric else QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=operators,
            extra_options={"ActivationSymmetric": symmetric},
        )
