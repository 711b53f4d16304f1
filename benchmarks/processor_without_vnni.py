"""This machine as one whose processor has no VNNI: ONNX Runtime's kernels for older processors, at their full speed.

    environment = without_vnni(folder)                              # or None, where a process cannot be shown less
    subprocess.run([sys.executable, "script.py"], env=environment)

For what depends on the kind of processor and must be shown on both. The clock and the caches stay this machine's:
ratios of times within one kind can be compared with another's, milliseconds cannot.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

SOURCE = Path(__file__).with_suffix(".c")
KINDS = {"vnni": "AVX-512 without VNNI", "avx512": "AVX2 without VNNI"}
"""What can be hidden → what is left."""

_ASKS = "from laco_export.onnx_session import products_saturate; print(products_saturate())"


def without_vnni(folder: Path, hide: str = "avx512") -> dict[str, str] | None:
    """The environment of a process that does not see VNNI.

    Args:
        folder: for the compiled library.
        hide: a name of :data:`KINDS`.

    Returns:
        None where there is no C compiler, or the processor or its kernel does not let CPUID be answered by others
        (x86-64 Linux on Intel since Ivy Bridge, on AMD since Zen 4).
    """
    compiler, library = shutil.which("cc"), folder / "processor_without_vnni.so"
    if compiler is None:
        return None
    command = [compiler, "-O2", "-shared", "-fPIC", "-o", str(library), str(SOURCE)]
    if subprocess.run(command, capture_output=True).returncode:
        return None
    environment = {**os.environ, "LD_PRELOAD": str(library.resolve()), "LACO_HIDE": hide}
    asked = subprocess.run([sys.executable, "-c", _ASKS], env=environment, capture_output=True, text=True)
    return environment if asked.stdout.strip() == "True" else None
