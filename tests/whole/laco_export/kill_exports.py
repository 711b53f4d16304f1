"""Export again and again and kill each export with SIGKILL at a random moment: run by ``test_killed.py``.

    python kill_exports.py CHECKPOINT OUTPUT KILLS

Half of the exports have nothing to replace, the other half an old bundle. Prints a line for each: what stands under the
output's name (``none``, ``bundle``, or ``broken``), how many temporaries stand beside it, and whether the export had
been done before its moment came. This process imports everything, traces the tower, and forks an export at a time: no
file is touched while that is done, and most of the moments fall where files are. It starts no OpenMP region itself,
which a fork would not survive.
"""

import os
import random
import signal
import sys
import time
import traceback
from dataclasses import replace
from pathlib import Path

import torch

torch.set_num_threads(1)

import onnxruntime  # noqa: E402, F401
import onnxscript  # noqa: E402, F401
import polygraphy.backend.onnxrt  # noqa: E402
import polygraphy.comparator  # noqa: E402, F401
import torch.onnx  # noqa: E402

from laco_export.bundle import open_bundle  # noqa: E402
from laco_export.errors import BundleError  # noqa: E402
from laco_export.exporter import proof, structural_gates, vision_graph  # noqa: E402, F401
from laco_export.exporter.options import ExportOptions  # noqa: E402
from laco_export.exporter.pipeline import export_bundle  # noqa: E402
from laco_export.exporter.tower import VisionTower  # noqa: E402
from laco_export.models import checkpoint  # noqa: E402


def trace(options: ExportOptions) -> vision_graph.TracedGraph:
    loaded = checkpoint.load(options.model)
    loaded.model.set_depth("1/2")
    prepare = loaded.processor.image_processor.preprocessing
    tower = VisionTower(loaded.model).eval()
    return vision_graph.trace_and_rewrite(tower, (1, 3, prepare.height, prepare.width), opset=options.opset)


def start(options: ExportOptions) -> int:
    child = os.fork()
    if child:
        return child
    try:
        export_bundle(options)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def finish(options: ExportOptions) -> float:
    """One export that is left alone; returns its processor seconds, which other programs on the machine do not move."""
    _, status, used = os.wait4(start(options), 0)
    if status:
        raise SystemExit("an export failed")
    return used.ru_utime + used.ru_stime


def killed(child: int, moment: float) -> bool:
    """Kill ``child`` when it has used ``moment`` processor seconds; False where it was done before."""
    while processor_seconds(child) < moment:
        if os.waitpid(child, os.WNOHANG)[0]:
            return False
        time.sleep(0.002)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return True


def processor_seconds(pid: int) -> float:
    """Of a child that has not been waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def state(output: Path) -> str:
    try:
        open_bundle(output)  # every file against its hash
    except BundleError:
        return "broken" if os.path.lexists(output) else "none"
    return "bundle"


def main(model: str, place: str, kills: str) -> None:
    output, moments = Path(place), random.Random(0)
    options = ExportOptions(Path(model), precision="fp32", output=output, force=True, llm=None, compile=False)
    traced = trace(options)
    vision_graph.trace_and_rewrite = lambda *arguments, **options: traced
    seconds = finish(replace(options, output=output.parent / "other"))
    for kill in range(int(kills)):
        if kill == int(kills) // 2:
            finish(options)
        was_killed = killed(start(options), moments.uniform(0, seconds))
        left = [path for path in output.parent.iterdir() if path.name.startswith(f".{output.name}.")]
        print(state(output), len(left), "killed" if was_killed else "done", flush=True)
    finish(options)


if __name__ == "__main__":
    main(*sys.argv[1:])
