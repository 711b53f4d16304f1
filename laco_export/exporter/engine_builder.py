"""Build a TensorRT engine of an ONNX graph in a process of its own, through Polygraphy's loaders.

One path for TensorRT 10.3 to 11.x and for TensorRT-RTX: the network is strongly typed (dtypes and Q/DQ are in the
graph), so no precision flag and no calibrator is touched; those are gone from 11.0. The process is separate because
a crash of the builder must not take the caller along, because its memory has to be free again before the engine is
loaded, and because Polygraphy decides at its import which of the two libraries it drives.

    python -m laco_export.exporter.engine_builder '{"graph": "vision_b1.onnx", "library": "tensorrt_rtx", …}'

prints TensorRT's messages, then one JSON line.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..atomic import write_bytes
from ..errors import LacoError
from ..machine import peak_memory
from .tensorrt_messages import Messages

if TYPE_CHECKING:
    import tensorrt_rtx as trt

LIBRARIES = ("tensorrt_rtx", "tensorrt")


class EngineBuildError(LacoError):
    """TensorRT refused a graph, crashed, or took too long."""


@dataclass(frozen=True)
class EngineRequest:
    """What to build; JSON between the two processes.

    Attributes:
        graph: the ONNX file; its external weights lie beside it.
        library: ``tensorrt`` or ``tensorrt_rtx``.
        output: where the engine goes (written whole or not at all); None builds and throws it away.
        workspace_bytes: the most scratch memory that a tactic may take; None leaves TensorRT's default.
        optimization_level: the builder's effort, 0 to 5; None leaves TensorRT's default.
        compute_capabilities: TensorRT-RTX only: the devices to build for, as ``86``. Empty: the device that is there,
            or where there is none TensorRT-RTX's own choice.
        timing_cache: standard TensorRT only: a file with measured tactics, read and updated. TensorRT-RTX times
            nothing while it builds, and saving a cache makes it ask for a GPU.
    """

    graph: str
    library: str
    output: str | None = None
    workspace_bytes: int | None = None
    optimization_level: int | None = None
    compute_capabilities: tuple[int, ...] = ()
    timing_cache: str | None = None


@dataclass(frozen=True)
class BuiltEngine:
    """What came out.

    Attributes:
        version: of the library.
        seconds: of parsing and building, without starting the process.
        plan_bytes: the engine's size.
        peak_host_bytes: resident memory of the build process at its peak. On a Jetson that is device memory too.
        warnings: TensorRT's, each once, with how often it came where that is more than once.
    """

    library: str
    version: str
    seconds: float
    plan_bytes: int
    peak_host_bytes: int
    warnings: tuple[str, ...] = ()


def build_engine(
    request: EngineRequest, *, timeout: float, on_message: Callable[[str], None] | None = None
) -> BuiltEngine:
    """Build an engine.

    Args:
        timeout: seconds after which a build that hangs is ended.
        on_message: called with every line that TensorRT prints, as it comes (``--verbose``).

    Raises:
        EngineBuildError: it was refused, crashed or took longer than ``timeout``; nothing is written then.
    """
    environment = {
        **os.environ,
        "POLYGRAPHY_USE_TENSORRT_RTX": "1" if request.library == "tensorrt_rtx" else "0",
        "PYTHONUNBUFFERED": "1",
    }
    lines = _run(_command(request), environment, timeout, on_message, request.library)
    try:
        result = json.loads(lines[-1])
    except (IndexError, ValueError):
        raise _failure(request.library, "it ended without a result") from None
    return BuiltEngine(**{**result, "warnings": tuple(Messages(lines[:-1]).warnings)})


def _command(request: EngineRequest) -> list[str]:
    return [sys.executable, "-m", __name__, json.dumps(asdict(request))]


def _run(command: list[str], environment: dict, timeout: float, on_message, library: str) -> list[str]:
    """The process's lines (stdout and stderr as one), or an error with the telling ones."""
    lines: list[str] = []
    start = time.monotonic()
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace"
    ) as process:
        watchdog = threading.Timer(timeout, process.kill)
        watchdog.start()
        try:
            for line in process.stdout:
                lines.append(line.rstrip("\n"))
                if on_message and not line.startswith("{"):
                    on_message(lines[-1])
            code = process.wait()
        except BaseException:
            process.kill()
            raise
        finally:
            watchdog.cancel()
    if code and time.monotonic() - start >= timeout:
        raise _failure(library, f"it was not done after {timeout:.0f} s")
    if code:
        output = RuntimeError("\n".join(lines))  # all of it, for --debug
        raise _failure(library, Messages(lines).reason or _exit_reason(code)) from output
    return lines


def _exit_reason(code: int) -> str:
    if code == -9:
        return "the system ended it (signal 9): most often the memory ran out"
    return f"it crashed with signal {-code}" if code < 0 else f"exit code {code}"


def _failure(library: str, reason: str) -> EngineBuildError:
    return EngineBuildError(f"{library} does not build the graph", given=reason)


def _build(request: EngineRequest) -> dict:
    """The work, in the process of its own."""
    from polygraphy.backend.trt import (
        CreateConfig,
        EngineBytesFromNetwork,
        NetworkFromOnnxPath,
        PostprocessConfig,
    )
    from polygraphy.logger import G_LOGGER

    if request.library == "tensorrt_rtx":
        import tensorrt_rtx as trt
    else:
        import tensorrt as trt
    G_LOGGER.module_severity = G_LOGGER.VERBOSE
    limits = {} if request.workspace_bytes is None else {trt.MemoryPoolType.WORKSPACE: request.workspace_bytes}
    cache = request.timing_cache if request.library == "tensorrt" else None
    config = CreateConfig(
        memory_pool_limits=limits or None,
        builder_optimization_level=request.optimization_level,
        load_timing_cache=cache if cache and Path(cache).is_file() else None,
    )
    if request.compute_capabilities:
        config = PostprocessConfig(config, lambda builder, network, config: _set_targets(trt, config, request))
    network = NetworkFromOnnxPath(request.graph, strongly_typed=True)
    start = time.perf_counter()
    plan = EngineBytesFromNetwork(network, config=config, save_timing_cache=cache)()
    seconds = time.perf_counter() - start
    data = memoryview(plan)
    if request.output:
        write_bytes(request.output, data)
    return {
        "library": request.library,
        "version": trt.__version__,
        "seconds": round(seconds, 3),
        "plan_bytes": data.nbytes,
        "peak_host_bytes": peak_memory(),
    }


def _set_targets(trt, config: trt.IBuilderConfig, request: EngineRequest) -> None:
    """Name the devices that TensorRT-RTX builds for; standard TensorRT has no such choice."""
    config.num_compute_capabilities = len(request.compute_capabilities)
    for index, capability in enumerate(request.compute_capabilities):
        member = trt.ComputeCapability.__members__.get(f"SM{capability}")
        if member is None or not config.set_compute_capability(member, index):
            raise RuntimeError(f"TensorRT-RTX {trt.__version__} does not build for compute capability {capability}")


if __name__ == "__main__":
    arguments = json.loads(sys.argv[1])
    built = _build(EngineRequest(**{**arguments, "compute_capabilities": tuple(arguments["compute_capabilities"])}))
    print()
    print(json.dumps(built))
