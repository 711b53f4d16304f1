"""The compile gate: does a TensorRT parse and build the exported graph?

TensorRT-RTX builds without a GPU and is tried first; standard TensorRT needs a device. The build runs in a process of
its own, through Polygraphy's loaders, as a strongly typed network: a crash of the builder is then a failed gate and not
the end of the export, and Polygraphy decides at import which of the two it drives.

    python -m laco_export.exporter.compile_gate vision_b1.onnx      # prints one JSON line
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from ..errors import ExportError

TIMEOUT = 600.0
"""Seconds: a 24-block FP16 encoder takes seconds on two cores; a builder that hangs must not hang the export."""


def available() -> str | None:
    """The builder that can be used here, ``tensorrt_rtx`` or ``tensorrt``, or None."""
    if find_spec("tensorrt_rtx"):
        return "tensorrt_rtx"
    if find_spec("tensorrt"):
        import torch

        return "tensorrt" if torch.cuda.is_available() else None
    return None


def compile_graph(path: Path, builder: str) -> dict:
    """Build an engine of ``path`` and throw it away.

    Returns:
        ``{"builder", "version", "seconds", "plan_bytes"}``.

    Raises:
        ExportError: it was refused, crashed or took longer than :data:`TIMEOUT`.
    """
    environment = {**os.environ, "POLYGRAPHY_USE_TENSORRT_RTX": "1" if builder == "tensorrt_rtx" else "0"}
    command = [sys.executable, "-m", __name__, str(path), builder]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        raise _failure(builder, f"it was not done after {TIMEOUT:.0f} s") from None
    lines = done.stdout.strip().splitlines()
    if done.returncode or not lines:
        raise _failure(builder, _reason(done.stdout + "\n" + done.stderr) or f"exit code {done.returncode}")
    return {"builder": builder, **json.loads(lines[-1])}


def _reason(log: str) -> str:
    telling = [line.strip() for line in log.splitlines() if "[E]" in line or "Error" in line or "rror:" in line]
    return " | ".join(telling[:3])[:600]


def _failure(builder: str, reason: str) -> ExportError:
    return ExportError(
        f"{builder} does not build the exported graph",
        given=reason,
        todo="report this; --no-compile exports without this gate",
    )


def _build(path: str, builder: str) -> dict:
    from importlib import import_module

    from polygraphy.backend.trt import EngineBytesFromNetwork, NetworkFromOnnxPath

    start = time.perf_counter()
    plan = EngineBytesFromNetwork(NetworkFromOnnxPath(path, strongly_typed=True))()
    return {
        "version": import_module(builder).__version__,
        "seconds": round(time.perf_counter() - start, 2),
        "plan_bytes": memoryview(plan).nbytes,
    }


if __name__ == "__main__":
    result = _build(sys.argv[1], sys.argv[2])
    print()
    print(json.dumps(result))
