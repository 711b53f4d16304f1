"""The memory that one bundle takes: measured in a process that does nothing else.

Bundles that are timed in turn share one process, whose peak would be that of them all. So each is loaded once more by

    python -m laco_engines.bench.process_memory '{"bundle": "…", "batch": 5, …}'

which verifies nothing (the caller has), encodes once, answers once where there is a language model, and prints one JSON
line.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

_TIMEOUT_S = 900.0
"""Seconds: a large bundle on a slow board loads for minutes; a process that hangs must not hang the benchmark."""


@dataclass(frozen=True)
class MemoryRequest:
    """What to load and run; JSON between the two processes.

    Attributes:
        batch: pictures of one call.
        llm: answer too.
        at: the depth to load; None takes the bundle's first.
    """

    bundle: str
    runtime: str | None
    threads: int
    batch: int
    llm: bool
    text_runtime: str | None = None
    at: str | None = None


def bundle_memory(request: MemoryRequest) -> dict:
    """Measure it.

    Returns:
        ``{"peak_resident_bytes", "device_bytes"}``: what the process had resident at its peak, Python and its libraries
        included, and what it took of a GPU's own memory, None without one. ``{"error": …}`` where it could not.
    """
    command = [sys.executable, "-m", __name__, json.dumps(asdict(request))]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        return {"error": f"not done after {_TIMEOUT_S:.0f} s"}
    lines = (done.stderr if done.returncode else done.stdout).strip().splitlines()
    if done.returncode or not lines:
        return {"error": (lines or [f"exit code {done.returncode}"])[-1][:300]}
    return json.loads(lines[-1])


def _measure(request: MemoryRequest) -> dict:
    from laco_export.bundle import Bundle, read_manifest
    from laco_export.machine import peak_memory

    from ..devices.cuda import present_device

    before = present_device()
    bundle = Bundle(Path(request.bundle), read_manifest(request.bundle)).at(request.at)
    pixels = np.zeros((request.batch, *bundle.manifest.vision.graphs[0].input.shape[1:]), np.float32)
    if request.llm:
        from PIL import Image

        from ..answering import Answerer

        answerer = Answerer(bundle, runtime=request.runtime, text_runtime=request.text_runtime, threads=request.threads)
        vision = answerer.vision
        answerer.answer([Image.new("RGB", (336, 336))], "What is in the picture?", max_new_tokens=2)
    else:
        from ..runtimes import open_runtime

        vision = open_runtime(bundle, name=request.runtime, threads=request.threads)
    vision.encode(pixels)
    # An integrated GPU's memory is the process's own and is counted there.
    taken = None if before is None or before.integrated else before.free_bytes - present_device().free_bytes
    return {"peak_resident_bytes": peak_memory(), "device_bytes": taken}


if __name__ == "__main__":
    from laco_export.errors import LacoError

    try:
        measured = _measure(MemoryRequest(**json.loads(sys.argv[1])))
    except LacoError as problem:
        measured = {"error": problem.failed}
    print()
    print(json.dumps(measured))
