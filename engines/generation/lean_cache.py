"""The KV cache of the lean text runtime: OrtValues that ONNX Runtime writes into, without PyTorch.

As in :mod:`.kv_cache`, past and present of a step are the same memory, and no padding is stored. Rows have their own
lengths; only a cache of one row is cut, copied or continued by more than a token.
"""

from __future__ import annotations

import numpy as np

_SPARE = 64  # positions more than asked for when the buffers grow, so that single tokens do not each move them


class OrtKVCache:
    """Keys and values of all layers.

    Args:
        layers, batch, kv_heads, head_dim: the buffers' shape.
        capacity: positions to make room for; more are made when needed. On a CPU memory is only taken once it is
            written.
        dtype: float32 or float16.
        device: ``cpu`` or ``cuda``.

    Attributes:
        values: key and value of each layer, ``[batch, kv_heads, capacity, head_dim]``.
        lengths: positions in use, row by row.
        bindings: what the decoder has bound to the buffers; dropped when they move.
    """

    def __init__(
        self, layers: int, batch: int, kv_heads: int, head_dim: int, capacity: int, dtype: type, device: str = "cpu"
    ):
        self._shape, self._dtype, self._device = (batch, kv_heads, capacity, head_dim), dtype, device
        self.lengths = [0] * batch
        self.bindings: dict = {}
        self._allocate(2 * layers)

    def _allocate(self, count: int) -> None:
        from onnxruntime import OrtValue

        self.bindings.clear()
        self._arrays: list[np.ndarray] | None = None
        if self._device == "cpu":
            # A view, not a copy: an OrtValue of a numpy array is that array's memory.
            self._arrays = [np.empty(self._shape, self._dtype) for _ in range(count)]
            self.values = [OrtValue.ortvalue_from_numpy(array) for array in self._arrays]
        else:
            self.values = [
                OrtValue.ortvalue_from_shape_and_type(self._shape, self._dtype, self._device, 0) for _ in range(count)
            ]

    @property
    def batch(self) -> int:
        return self._shape[0]

    @property
    def capacity(self) -> int:
        return self._shape[2]

    @property
    def nbytes(self) -> int:
        """Of the buffers, what is free included."""
        return len(self.values) * int(np.prod(self._shape)) * np.dtype(self._dtype).itemsize

    def get_seq_length(self) -> int:
        """Positions of the longest row."""
        return max(self.lengths)

    def reserve(self, positions: int) -> None:
        """Make room for ``positions`` in all."""
        if positions > self.capacity:
            held = self.read()
            self._shape = (*self._shape[:2], positions + _SPARE, self._shape[3])
            self._allocate(len(held))
            self._write(held)

    def crop(self, length: int) -> None:
        """Forget all but the first ``length`` positions of each row."""
        self.lengths = [min(length, row) for row in self.lengths]

    def copy(self, length: int | None = None, capacity: int = 0) -> OrtKVCache:
        """An independent cache of the first ``length`` positions (default: all)."""
        batch, kv_heads, _, head_dim = self._shape
        lengths = self.lengths if length is None else [min(length, row) for row in self.lengths]
        capacity = max(capacity, max(lengths) + _SPARE)
        copied = OrtKVCache(len(self.values) // 2, batch, kv_heads, head_dim, capacity, self._dtype, self._device)
        copied._write(self.read(max(lengths)))
        copied.lengths = list(lengths)
        return copied

    def read(self, length: int | None = None) -> list[np.ndarray]:
        """Keys and values of the first ``length`` positions (default: those in use), ``[batch, kv_heads, length,
        head_dim]`` each; views where the buffers are the host's."""
        used = max(self.lengths) if length is None else length
        arrays = self._arrays or [value.numpy() for value in self.values]
        return [array[:, :, :used] for array in arrays]

    def _write(self, held: list[np.ndarray]) -> None:
        for index, part in enumerate(held):
            if self._arrays is not None:
                self._arrays[index][:, :, : part.shape[2]] = part
            else:
                whole = np.zeros(self._shape, self._dtype)
                whole[:, :, : part.shape[2]] = part
                self.values[index].update_inplace(whole)

    def __repr__(self) -> str:
        return f"OrtKVCache({len(self.values) // 2} layers, rows of {self.lengths}, room for {self.capacity})"
