"""ONNX Runtime sessions: one rule for threads, logging, memory and exact integer products, whoever opens one.

::

    session = open_session(folder / "vision_b1.onnx")                       # the CPU provider
    session = open_session(path, options=session_options(threads=4), providers=[("CUDAExecutionProvider", {})])

On x86 without VNNI, ONNX Runtime's product of uint8 by int8 adds pairs in 16 bits and saturates. Each session here asks
for the exact product (``session.x64quantprecision``), so that a graph computes on every processor what it was judged
to compute; where there is VNNI the entry changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .machine import default_threads

CPU_PROVIDER = "CPUExecutionProvider"
ERRORS_ONLY = 3
"""ONNX Runtime's log level: the user did not write the graph, and its warnings are about how it was written."""


def session_options(
    *,
    threads: int | None = None,
    keep_memory: bool = True,
    spin: bool = True,
    weights_folder: Path | None = None,
    entries: dict[str, str] | None = None,
):
    """An ``onnxruntime.SessionOptions``.

    Args:
        threads: of one operator on the CPU; default: :func:`~laco_export.machine.default_threads`.
        keep_memory: hold what a run took for the next run; without it a session between two runs is as small as its
            weights.
        spin: threads wait actively for the next operator. Without, they leave the cores to whoever computes between
            two runs.
        weights_folder: where the external weights of a model that comes from memory lie.
        entries: further configuration, by ONNX Runtime's keys.

    Raises:
        ImportError: ONNX Runtime is not installed.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or default_threads()
    options.log_severity_level = ERRORS_ONLY
    options.enable_cpu_mem_arena = options.enable_mem_pattern = keep_memory
    configuration = {"session.x64quantprecision": "1", **(entries or {})}
    if not spin:
        configuration["session.intra_op.allow_spinning"] = "0"
    if weights_folder is not None:
        configuration["session.model_external_initializers_file_folder_path"] = str(weights_folder)
    for key, value in configuration.items():
        options.add_session_config_entry(key, value)
    return options


def open_session(model: Path | bytes, *, options=None, providers: Sequence = (CPU_PROVIDER,)):
    """An ``onnxruntime.InferenceSession``.

    Args:
        model: an ONNX file, or a serialised model.
        options: of :func:`session_options`; default: as it gives them without arguments.
        providers: as ``InferenceSession`` takes them. ONNX Runtime's own fallback to the CPU is off: it prints to
            stdout, and the caller would not learn that it happened.

    Raises:
        ImportError: ONNX Runtime is not installed.
        Exception: ONNX Runtime cannot load the model; it raises many kinds.
    """
    import onnxruntime

    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(
        source, options or session_options(), providers=list(providers), enable_fallback=0
    )
