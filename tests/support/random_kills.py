"""Kill a piece of work with SIGKILL at random moments, and say what it left.

The process that calls :func:`kill` has imported everything, forks a run at a time and starts no OpenMP region itself,
which a fork would not survive.
"""

import gc
import os
import random
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from laco_export.bundle import open_bundle
from laco_export.errors import BundleError


def start(work: Callable[[], object]) -> int:
    """Do it in a process of its own, whose collections look at its own objects and leave what it shares unwritten."""
    gc.freeze()
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

    Prints a line for each: what stands under the output's name (``none``, ``bundle``, or ``broken``), how many
    temporaries stand beside it, and whether the work had been done before its moment came.

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
