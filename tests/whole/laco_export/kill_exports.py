"""Export again and again and kill each export with SIGKILL at a random moment: run by ``test_killed.py``.

    python kill_exports.py CHECKPOINT OUTPUT KILLS [--asked]

With ``--asked`` the bundles have a language model and are asked before they get their names, and the moments lie in the
second half of an export, where that is done.

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
from collections.abc import Callable
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


def start(work: Callable[[], object]) -> int:
    """Do it in a process of its own."""
    child = os.fork()
    if child:
        return child
    try:
        work()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def finish(work: Callable[[], object]) -> float:
    """Leave it alone; returns its processor seconds, which other programs on the machine do not move."""
    _, status, used = os.wait4(start(work), 0)
    if status:
        raise SystemExit("what should not have been killed failed")
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


def kill(work: Callable[[], object], output: Path, kills: int, moments: tuple[float, float]) -> None:
    """Start ``work``, which makes ``output``, so many times and kill it in turn; in between it is let end once.

    Args:
        moments: between which processor seconds.
    """
    draw = random.Random(0)
    for number in range(kills):
        if number == kills // 2:
            finish(work)
        was_killed = killed(start(work), draw.uniform(*moments))
        left = [path for path in output.parent.iterdir() if path.name.startswith(f".{output.name}.")]
        print(state(output), len(left), "killed" if was_killed else "done", flush=True)
    finish(work)


def main(model: str, place: str, kills: str, asked: str | None = None) -> None:
    output, trial = Path(place), None
    if asked:
        import optimum.onnxruntime  # noqa: F401

        from laco_engines.trial import try_bundle as trial

    llm = "fp32" if asked else None
    options = ExportOptions(Path(model), precision="fp32", output=output, force=True, llm=llm, compile=False)
    traced = trace(options)
    vision_graph.trace_and_rewrite = lambda *arguments, **options: traced
    seconds = finish(lambda: export_bundle(replace(options, output=output.parent / "other"), trial))
    kill(lambda: export_bundle(options, trial), output, int(kills), (seconds / 2 if asked else 0.0, seconds))


if __name__ == "__main__":
    main(*sys.argv[1:])
