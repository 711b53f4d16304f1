"""Every ONNX Runtime session of this project, so that a bundle computes the same numbers on every processor.

::

    session = open_session(bundle.file("vision_b1.onnx"), threads=2)

On x86 with AVX2 or AVX-512 but without VNNI, ONNX Runtime multiplies uint8 by int8 with vpmaddubsw, which adds two
products in 16 bits: 255 · 127 + 255 · 127 does not fit, and is cut off. That concerns the integer operators that
calibration writes, and those that ONNX Runtime makes of Q/DQ pairs. Its own remedy is a session entry
(kOrtSessionOptionsAvx2PrecisionMode) that makes int8 weights uint8, for which it has another kernel, an exact one. It
is no remedy for all: with VNNI, where nothing is cut off, that kernel takes 2.5 times as long (ONNX Runtime 1.31). So
one product is tried, and the entry is set where its sum comes out wrong.

Graphs that are opened with the entry must write down the zero point of an int8 weight, with a value for each scale. Of
one that is left out ONNX Runtime 1.31 makes a single one, which it refuses beside a scale for each column when the
graph runs; before 1.30 it crashed.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .machine import default_threads

if TYPE_CHECKING:
    import onnxruntime

EXACT_PRODUCTS = "session.x64quantprecision"

# An ONNX model of one node: MatMulInteger of uint8 a [2, 4] and int8 b [4, 16] to int32 c. As bytes, since onnx is not
# installed where bundles are only run.
_PRODUCT = (
    b'\x08\x08:[\n\x18\n\x01a\n\x01b\x12\x01c"\rMatMulInteger\x12\x00'
    b"Z\x13\n\x01a\x12\x0e\n\x0c\x08\x02\x12\x08\n\x02\x08\x02\n\x02\x08\x04"
    b"Z\x13\n\x01b\x12\x0e\n\x0c\x08\x03\x12\x08\n\x02\x08\x04\n\x02\x08\x10"
    b"b\x13\n\x01c\x12\x0e\n\x0c\x08\x06\x12\x08\n\x02\x08\x02\n\x02\x08\x10B\x04\n\x00\x10\n"
)


def session_options(
    *,
    threads: int | None = None,
    keep_memory: bool = True,
    spin: bool = True,
    exact_products: bool = True,
    config: Mapping[str, str] | None = None,
) -> onnxruntime.SessionOptions:
    """Options, for a session that others open.

    Args:
        threads: of one operator; default: :func:`~laco_export.machine.default_threads`.
        keep_memory: keep between two runs what the next will need; else no more is held than a run needs.
        spin: threads wait actively for the next run, which takes the cores of whatever computes between two runs.
        exact_products: ask for them where this processor's are not. Without, for graphs that multiply in floats and
            leave out their int8 weights' zero points.
        config: further configuration entries.

    Raises:
        ImportError: ONNX Runtime is not installed.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or default_threads()
    options.log_severity_level = 3  # errors only: the user did not write the graph
    if not keep_memory:
        options.enable_cpu_mem_arena = options.enable_mem_pattern = False
    entries = dict(config or {})
    if not spin:
        entries["session.intra_op.allow_spinning"] = "0"
    if exact_products and products_saturate():
        entries[EXACT_PRODUCTS] = "1"
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    return options


def open_session(
    model: Path | str | bytes,
    *,
    providers: Sequence = ("CPUExecutionProvider",),
    weights_folder: Path | None = None,
    config: Mapping[str, str] | None = None,
    **options,
) -> onnxruntime.InferenceSession:
    """Open a session, on the CPU if nothing else is named.

    Args:
        model: a file, or a model as bytes.
        providers: as ``InferenceSession`` takes them, the preferred first.
        weights_folder: where the weight file of a model given as bytes is.
        options, config: of :func:`session_options`.
    """
    import onnxruntime

    entries = dict(config or {})
    if weights_folder is not None:
        entries["session.model_external_initializers_file_folder_path"] = str(weights_folder)
    return onnxruntime.InferenceSession(
        model if isinstance(model, bytes) else str(model),
        session_options(config=entries, **options),
        providers=list(providers),
        enable_fallback=0,  # ONNX Runtime's own prints to stdout and does not say that it happened
    )


@functools.cache
def products_saturate() -> bool:
    """Whether ONNX Runtime cuts off sums of uint8 · int8 on this processor (see the module's text); takes 4 ms."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = onnxruntime.InferenceSession(_PRODUCT, options, providers=["CPUExecutionProvider"])
    (sums,) = session.run(None, {"a": np.full((2, 4), 255, np.uint8), "b": np.full((4, 16), 127, np.int8)})
    return bool((sums != 4 * 255 * 127).any())
