"""The stand-ins for TensorRT and for CUDA: neither computes on a device, and no test here is a run of TensorRT."""

import ctypes
import dataclasses
import enum
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from laco_engines.devices.cuda import CudaDevice

ASSETS = Path(__file__).parents[1] / "assets"
LEVELS = ("tensorrt-10.3", "tensorrt-10.13", "tensorrt-10.16", "tensorrt-11.4")

STAND_IN = CudaDevice("Stand-in", 87, 8 << 30, 6 << 30, True, "12.6", 8, "Stand-in Developer Kit", "36.4.3")


@pytest.fixture
def load_stand_in(monkeypatch):
    """``load_stand_in(level)``: TensorRT's names of that version as the module ``tensorrt`` or ``tensorrt_rtx``."""

    def load(level, log=None):
        monkeypatch.setenv("LACO_STAND_IN_LEVEL", level)
        if log is not None:
            monkeypatch.setenv("LACO_STAND_IN_LOG", str(log))
        name = "tensorrt_rtx" if "rtx" in level else "tensorrt"
        spec = importlib.util.spec_from_file_location(name, ASSETS / "tensorrt-stand-in/tensorrt/__init__.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return load


class Error(enum.IntEnum):
    cudaErrorMemoryAllocation = 2


OUT_OF_MEMORY = Error.cudaErrorMemoryAllocation


class StandInCuda:
    """The calls of ``cuda.bindings.runtime`` that the code makes, on host memory; each is a real name of the package.

    Attributes:
        calls: names in the order in which they were called.
        memory: what is allocated; streams: how many there are.
        failing: a call that runs out of memory, and after how many that succeed.
    """

    cudaStreamNonBlocking = 1

    class cudaMemcpyKind:
        cudaMemcpyHostToDevice = 1
        cudaMemcpyDeviceToHost = 2

    class cudaStreamCaptureMode:
        cudaStreamCaptureModeThreadLocal = 1

    def __init__(self):
        self.calls, self.memory, self.captured, self.streams = [], {}, None, 0
        self.failing = None

    def _done(self, name, *values):
        self.calls.append(name)
        return (0, *values)

    def _fails(self, name):
        """Whether this call is the one of ``failing``: a name, and how often it may still succeed."""
        if self.failing is None or self.failing[0] != name:
            return False
        self.failing = (name, self.failing[1] - 1)
        return self.failing[1] < 0

    def _allocate(self, name, nbytes):
        if self._fails(name):
            return OUT_OF_MEMORY, None
        block = ctypes.create_string_buffer(nbytes)
        self.memory[ctypes.addressof(block)] = block
        return self._done(name, ctypes.addressof(block))

    def cudaMalloc(self, nbytes):
        return self._allocate("cudaMalloc", nbytes)

    def cudaMallocHost(self, nbytes):
        return self._allocate("cudaMallocHost", nbytes)

    def cudaFree(self, address):
        del self.memory[address]
        return self._done("cudaFree")

    def cudaFreeHost(self, address):
        del self.memory[address]
        return self._done("cudaFreeHost")

    def cudaMemcpyAsync(self, target, source, nbytes, kind, stream):
        self.enqueue(lambda: ctypes.memmove(target, source, nbytes))
        return self._done("cudaMemcpyAsync")

    def cudaMemGetInfo(self):
        return self._done("cudaMemGetInfo", 6 << 30, 8 << 30)

    def cudaStreamCreateWithFlags(self, flags):
        self.streams += 1
        return self._done("cudaStreamCreateWithFlags", 7)

    def cudaStreamSynchronize(self, stream):
        return self._done("cudaStreamSynchronize")

    def cudaStreamDestroy(self, stream):
        self.streams -= 1
        return self._done("cudaStreamDestroy")

    def cudaStreamBeginCapture(self, stream, mode):
        self.captured = []
        return self._done("cudaStreamBeginCapture")

    def cudaStreamEndCapture(self, stream):
        graph, self.captured = self.captured, None
        return self._done("cudaStreamEndCapture", graph)

    def cudaGraphInstantiate(self, graph, flags):
        if self._fails("cudaGraphInstantiate"):
            return OUT_OF_MEMORY, None
        return self._done("cudaGraphInstantiate", graph)

    def cudaGraphDestroy(self, graph):
        return self._done("cudaGraphDestroy")

    def cudaGraphExecDestroy(self, graph):
        return self._done("cudaGraphExecDestroy")

    def cudaGraphLaunch(self, graph, stream):
        for step in graph:
            step()
        return self._done("cudaGraphLaunch")

    def enqueue(self, step):
        """Run a step now, or record it while the stream is captured: a capture runs nothing."""
        if self.captured is None:
            step()
        else:
            self.captured.append(step)


@pytest.fixture
def stand_in_device(monkeypatch, load_stand_in, bundle, tmp_path):
    """``stand_in_device(level, capability=87)``: a stand-in TensorRT and CUDA device named "Stand-in".

    Its engines are what their file's name says, the batch size, and "compute" means over a picture's pixels.
    """
    from laco_engines.runtimes import tensorrt_engine

    def make(level, capability=87, log=None):
        trt, cuda = load_stand_in(level, log), StandInCuda()
        device = dataclasses.replace(STAND_IN, capability=capability)
        monkeypatch.setattr(tensorrt_engine, "cuda_runtime", lambda: cuda)
        monkeypatch.setattr(tensorrt_engine, "find_device", lambda: device)
        graphs = {str(graph.batch).encode(): graph for graph in bundle.manifest.vision.graphs}

        def tensors(plan):
            graph = graphs[plan]
            return [
                (graph.output.name, graph.output.shape, "FLOAT", False),
                (graph.input.name, graph.input.shape, "FLOAT", True),
            ]

        def enqueue(plan, addresses, stream):
            graph = graphs[plan]

            def compute():
                pixels, features = (
                    np.frombuffer(
                        (ctypes.c_byte * (4 * int(np.prod(spec.shape)))).from_address(addresses[spec.name]), np.float32
                    ).reshape(spec.shape)
                    for spec in (graph.input, graph.output)
                )
                features[:] = pixels.mean((1, 2, 3))[:, None, None]

            cuda.enqueue(compute)
            return stream == 7

        trt.RUN.update(tensors=tensors, enqueue=enqueue)
        return trt, cuda, device

    return make


@pytest.fixture
def store_engines(bundle, tmp_path):
    """``store_engines(key fields)``: an engine cache with one stand-in engine of each graph of the bundle."""
    from laco_engines.store.engine_cache import EngineCache, EngineKey
    from laco_export.atomic import write_json

    cache = EngineCache(tmp_path / "engines")

    def store(
        library,
        version,
        device=STAND_IN.identity,
        capabilities=(),
        batches=(1, 2),
        content=None,
        system=STAND_IN.system,
        schema=2,
    ):
        for graph in bundle.manifest.vision.graphs:
            if graph.batch in batches:
                key = EngineKey(bundle.graph_sha256(graph), library, version, device, capabilities, {}, system)
                cache.path_of(key).parent.mkdir(parents=True, exist_ok=True)
                cache.path_of(key).write_bytes(str(graph.batch).encode() if content is None else content)
                sidecar = cache.seal(key, {"batch": graph.batch}).sidecar
                if schema == 1:  # as it was written before boards and systems were noted
                    del sidecar["key"]["system"]
                    write_json(cache.path_of(key).with_suffix(".json"), {**sidecar, "schema_version": 1})
        return cache

    return store
