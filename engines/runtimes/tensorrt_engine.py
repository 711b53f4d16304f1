"""The vision tower on TensorRT and TensorRT-RTX: stored engines, named tensors, one captured graph a batch size.

Not run on a device yet: no GPU was at hand. That every TensorRT name used here exists from 10.3 to 11.x is checked
against the real bindings (``.ci/tensorrt_names.py``).
"""

from __future__ import annotations

import contextlib
import traceback
from importlib import import_module
from typing import TYPE_CHECKING

import numpy as np

from laco_export.atomic import write_bytes
from laco_export.bundle import Bundle, VisionGraph
from laco_export.errors import BundleError

from ..devices.cuda import DeviceMissingError, cuda_runtime, find_device
from ..packages import is_installed
from ..store.engine_cache import EngineCache, StoredEngine
from ..store.engine_choice import EngineMismatchError, choose_engine
from ..store.fallback import fallback_of, keeps_fallback
from .cuda_buffers import Buffer, CapturedGraph, Stream
from .protocol import RuntimeMissingError, check_pictures, encode_in_batches, split_batch

if TYPE_CHECKING:
    import tensorrt as trt

_DTYPES = {"FLOAT": "float32", "HALF": "float16"}
"""TensorRT's names of the types that a vision graph's input and output have."""


class TensorRTVision:
    """:class:`~laco_engines.runtimes.VisionRuntime` on engines that ``laco-engine build`` made for this device.

    One execution context, one pair of buffers and one captured CUDA graph a batch size, made when that size is first
    needed and kept. Where the build measured that a bundle's fallback is faster than its eight bits, that is what runs.

    Args:
        bundle: a verified bundle.
        threads: taken for the protocol's sake; the device has its own.
        cache: where the engines are; default: the user's.
        engines: these and no others, by batch size, of the bundle's own graphs: for a comparison after a build.

    Raises:
        RuntimeMissingError: no library, no device, no engine for exactly this graph, version and device; or TensorRT or
            CUDA failed while it was opened, for want of memory say. Nothing is left on the device then.
        BundleError: an engine does not have the tensors that the manifest states.
    """

    library = "tensorrt"
    title = "TensorRT"
    on_cpu = False

    def __init__(
        self,
        bundle: Bundle,
        *,
        threads: int | None = None,
        cache: EngineCache | None = None,
        engines: dict[int, StoredEngine] | None = None,
    ):
        if not is_installed(self.library):
            raise RuntimeMissingError(f"{self.title} is not installed")
        try:  # before the library, whose import alone takes 80 MiB
            self._cuda, self.device = cuda_runtime(), find_device()
        except DeviceMissingError as error:
            raise RuntimeMissingError(f"{self.title} has no device: {error.failed}", todo=error.todo) from None
        try:
            self._trt = import_module(self.library)
        except ImportError as error:
            raise RuntimeMissingError(f"{self.title} is installed and cannot be imported: {error}") from None
        self.passed_over: tuple[str, ...] = ()
        graphs = {graph.batch: graph for graph in bundle.manifest.vision.graphs}
        if engines is not None:
            chosen = {batch: (bundle.manifest.vision.precision, graphs[batch], engines[batch]) for batch in engines}
        else:
            chosen = self._choose(bundle, cache or EngineCache())
        self.precision = "/".join(dict.fromkeys(precision for precision, _, _ in chosen.values()))
        self._graphs = {batch: graph for batch, (_, graph, _) in chosen.items()}
        self._engines = {batch: stored for batch, (_, _, stored) in chosen.items()}
        self._logger: trt.ILogger = self._trt.Logger(self._trt.Logger.ERROR)
        self._runners: dict[int, _EngineRunner] = {}
        self.name = f"{self.title} {self._trt.__version__} {self.device.name}"
        with contextlib.ExitStack() as undo:
            with self._failures_told():
                self._runtime: trt.Runtime = self._make_runtime()
                self._stream = Stream(self._cuda)
            undo.callback(self.close)
            self._runner(min(self._graphs))
            undo.pop_all()

    @property
    def batch_sizes(self) -> list[int]:
        """Batch sizes with an engine."""
        return sorted(self._graphs)

    def prepare(self, num_images: int) -> None:
        """See :meth:`VisionRuntime.prepare`."""
        for batch in split_batch(num_images, self.batch_sizes):
            self._runner(batch)

    def encode(self, pixel_values: np.ndarray) -> np.ndarray:
        """See :meth:`VisionRuntime.encode`."""
        check_pictures(pixel_values, next(iter(self._graphs.values())).input.shape[1:])
        return encode_in_batches(lambda batch, pixels: self._runner(batch).run(pixels), self.batch_sizes, pixel_values)

    def close(self) -> None:
        """Free everything on the device."""
        for runner in self._runners.values():
            runner.close()
        self._runners.clear()
        self._stream.close()

    def _make_runtime(self) -> trt.Runtime:
        try:
            return self._trt.Runtime(self._logger)
        except TypeError as error:  # what pybind11 makes of no object at all
            raise RuntimeError(f"it makes no runtime, with a driver for CUDA {self.device.driver}") from error

    def _choose(self, bundle: Bundle, cache: EngineCache) -> dict[int, tuple[str, VisionGraph, StoredEngine]]:
        """Precision, graph and engine a batch size; sizes without an engine are done with the others."""
        chosen, reasons = {}, []
        here = {"library": self.library, "version": self._trt.__version__, "device": self.device}
        fallback = fallback_of(bundle)
        for graph in bundle.manifest.vision.graphs:
            try:
                stored = choose_engine(cache, bundle, graph, **here)
                chosen[graph.batch] = (bundle.manifest.vision.precision, graph, stored)
                if fallback is not None and keeps_fallback(stored):
                    other = next(form for form in fallback.manifest.vision.graphs if form.batch == graph.batch)
                    stored = choose_engine(cache, fallback, other, **here)
                    chosen[graph.batch] = (fallback.manifest.vision.precision, other, stored)
            except EngineMismatchError as error:
                reasons.append(str(error))
        if not chosen:
            raise RuntimeMissingError(
                f"{self.title}: {'; '.join(reasons)}", todo=f"build for this device: laco-engine build {bundle.path}"
            )
        return chosen

    def _runner(self, batch: int) -> _EngineRunner:
        if batch not in self._runners:
            with self._failures_told():
                self._runners[batch] = self._open_engine(self._engines[batch], self._graphs[batch])
        return self._runners[batch]

    def _open_engine(self, stored: StoredEngine, graph: VisionGraph) -> _EngineRunner:
        engine: trt.ICudaEngine = self._runtime.deserialize_cuda_engine(stored.read())
        if engine is None:
            raise RuntimeMissingError(
                f"{self.title} does not load the engine '{stored.path}'{self._memory_left()}",
                todo="free device memory, or build it again: laco-engine build",
            )
        self._check_tensors(engine, graph)
        with self._context(engine, stored) as context:
            if context is None:
                raise RuntimeError("it makes no execution context")
            return _EngineRunner(self._cuda, self._stream, context, graph)

    @contextlib.contextmanager
    def _failures_told(self):
        """What TensorRT and CUDA raise in the block, as a runtime that cannot be used and why."""
        try:
            yield
        except (DeviceMissingError, RuntimeError, MemoryError) as error:
            traceback.clear_frames(error.__traceback__)  # they hold the engine, whose memory the next runtime may need
            reason = error.failed if isinstance(error, DeviceMissingError) else str(error) or type(error).__name__
            raise RuntimeMissingError(
                f"{self.title} does not start: {reason}{self._memory_left()}",
                todo="close what takes device memory, or choose another runtime: --runtime onnxruntime",
            ) from error

    def _memory_left(self) -> str:
        error, *memory = self._cuda.cudaMemGetInfo()
        return "" if int(error) else f" ({memory[0] >> 20:,} of {memory[1] >> 20:,} MiB of device memory are free)"

    @contextlib.contextmanager
    def _context(self, engine: trt.ICudaEngine, stored: StoredEngine):
        """An execution context, in a block at whose end it has run once."""
        yield engine.create_execution_context()

    def _check_tensors(self, engine: trt.ICudaEngine, graph: VisionGraph) -> None:
        actual = {}
        for index in range(engine.num_io_tensors):
            name = engine.get_tensor_name(index)
            dtype = _DTYPES.get(engine.get_tensor_dtype(name).name, engine.get_tensor_dtype(name).name)
            is_input = engine.get_tensor_mode(name) == self._trt.TensorIOMode.INPUT
            actual[name] = (dtype, tuple(engine.get_tensor_shape(name)), is_input)
        stated = {
            spec.name: (spec.dtype, tuple(spec.shape), spec is graph.input) for spec in (graph.input, graph.output)
        }
        if actual != stated:
            raise BundleError(f"the engine of {graph.file} does not have its tensors", given=actual, allowed=stated)


class TensorRTRTXVision(TensorRTVision):
    """The same on TensorRT-RTX.

    Its engines hold no kernels for the device yet: those are compiled at the first run and kept in a runtime cache
    beside the engine, which TensorRT-RTX itself refuses on another device or version.
    """

    library = "tensorrt_rtx"
    title = "TensorRT-RTX"

    @contextlib.contextmanager
    def _context(self, engine: trt.ICudaEngine, stored: StoredEngine):
        config = engine.create_runtime_config()
        cache = config.create_runtime_cache()
        path = stored.kernels(self.device.capability)
        compiled = path.is_file() and cache.deserialize(path.read_bytes())
        config.set_runtime_cache(cache)
        yield engine.create_execution_context(config)
        if not compiled:
            with contextlib.suppress(OSError):  # a read-only cache costs time at the next start, nothing else
                write_bytes(path, bytes(cache.serialize()))


class _EngineRunner:
    """One engine: its context, its buffers, and copy-run-copy as one captured graph."""

    def __init__(self, cuda, stream: Stream, context: trt.IExecutionContext, graph: VisionGraph):
        self._stream, self._context = stream, context
        with contextlib.ExitStack() as undo:
            self.input = Buffer(cuda, graph.input.shape, np.dtype(graph.input.dtype))
            undo.callback(self.input.close)
            self.output = Buffer(cuda, graph.output.shape, np.dtype(graph.output.dtype))
            undo.callback(self.output.close)
            context.set_tensor_address(graph.input.name, self.input.device)
            context.set_tensor_address(graph.output.name, self.output.device)
            self.input.host[:] = 0
            self._enqueue()  # the first run allocates and compiles, which a capture must not
            stream.synchronize()
            self._captured: CapturedGraph = stream.capture(self._enqueue)
            undo.pop_all()

    def run(self, pixel_values: np.ndarray) -> np.ndarray:
        """``[batch, 3, H, W]`` to float32 ``[batch, tokens, D]``; the array is the caller's own."""
        self.input.host[:] = pixel_values
        self._captured.launch(self._stream)
        self._stream.synchronize()
        return self.output.host.astype(np.float32)  # a copy: the pinned memory is written again

    def close(self) -> None:
        """Free the buffers and the graph."""
        self._captured.close()
        self.input.close()
        self.output.close()

    def _enqueue(self) -> None:
        self.input.to_device(self._stream)
        if not self._context.execute_async_v3(int(self._stream.handle)):
            raise RuntimeError("the engine was not enqueued")
        self.output.to_host(self._stream)
