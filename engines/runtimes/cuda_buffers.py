"""Device and pinned host memory, a stream, and a captured CUDA graph, by NVIDIA's bindings.

Everything is allocated once and freed by ``close``; what fails half-way frees what it has. Not run on a device yet: no
GPU was at hand.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from math import prod

import numpy as np

from ..devices.cuda import check_call


class Buffer:
    """A tensor on the device with its pinned twin on the host.

    Pinned memory is what lets a copy run at the bus's speed and inside a captured graph.

    Attributes:
        host: numpy array over the pinned memory.
        device: address on the device.
    """

    def __init__(self, cuda, shape: tuple[int, ...], dtype: np.dtype):
        self._cuda = cuda
        self.nbytes = prod(shape) * dtype.itemsize
        self.device = int(check_call(cuda.cudaMalloc(self.nbytes)))
        try:
            self._pinned = int(check_call(cuda.cudaMallocHost(self.nbytes)))
        except BaseException:
            cuda.cudaFree(self.device)
            raise
        memory = (ctypes.c_byte * self.nbytes).from_address(self._pinned)
        self.host = np.frombuffer(memory, dtype).reshape(shape)

    def to_device(self, stream: Stream) -> None:
        """Enqueue the copy host to device."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        check_call(self._cuda.cudaMemcpyAsync(self.device, self._pinned, self.nbytes, kind, stream.handle))

    def to_host(self, stream: Stream) -> None:
        """Enqueue the copy device to host."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        check_call(self._cuda.cudaMemcpyAsync(self._pinned, self.device, self.nbytes, kind, stream.handle))

    def close(self) -> None:
        """Free both; ``host`` must not be touched afterwards."""
        self._cuda.cudaFree(self.device)
        self._cuda.cudaFreeHost(self._pinned)


class Stream:
    """A CUDA stream of its own: the default stream cannot be captured."""

    def __init__(self, cuda):
        self._cuda = cuda
        self.handle = check_call(cuda.cudaStreamCreateWithFlags(cuda.cudaStreamNonBlocking))

    def synchronize(self) -> None:
        """Wait until everything enqueued is done."""
        check_call(self._cuda.cudaStreamSynchronize(self.handle))

    def capture(self, enqueue: Callable[[], None]) -> CapturedGraph:
        """Record what ``enqueue`` enqueues, without running it, as a graph that one launch runs."""
        check_call(
            self._cuda.cudaStreamBeginCapture(
                self.handle, self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
            )
        )
        try:
            enqueue()
        finally:
            graph = check_call(self._cuda.cudaStreamEndCapture(self.handle))
        try:
            executable = check_call(self._cuda.cudaGraphInstantiate(graph, 0))
        finally:
            self._cuda.cudaGraphDestroy(graph)
        return CapturedGraph(self._cuda, executable)

    def close(self) -> None:
        """Destroy the stream."""
        self._cuda.cudaStreamDestroy(self.handle)


class CapturedGraph:
    """A captured sequence of copies and kernels: launched by one call, since an encoder's hundreds of kernels cost more
    to launch than to run on a fast device."""

    def __init__(self, cuda, executable):
        self._cuda, self._executable = cuda, executable

    def launch(self, stream: Stream) -> None:
        """Enqueue the whole graph."""
        check_call(self._cuda.cudaGraphLaunch(self._executable, stream.handle))

    def close(self) -> None:
        """Destroy the graph."""
        self._cuda.cudaGraphExecDestroy(self._executable)
