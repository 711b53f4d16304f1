"""The keys and values of what a decoder has read, in buffers that ONNX Runtime writes into.

Past and present of a step are the same memory, so a step appends and copies nothing. After 2,048 positions that takes
9 % off an int4 step's CPU time, after 174 nothing (``benchmarks/results/decoder_binding.json``)::

    keys of a layer [B, kv_heads, capacity, head_dim]
    row 0  | prompt ........ | new | new |      free      |
    row 1  | prompt .. | new | new |         free         |   a shorter prompt: no padding is stored

Positions are counted as ``generate`` counts them, in columns of the attention mask; a row of a batch whose mask holds
padding is shorter than the columns are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from transformers.cache_utils import Cache

_SPARE = 64  # positions more than asked for when a buffer grows, so that single tokens do not each move it


class KVCache(Cache):
    """A preallocated cache for :class:`~laco_engines.generation.decoder.EmbedsDecoder`.

    Args:
        layers, batch, kv_heads, head_dim: the buffers' shape.
        capacity: positions to make room for; more are made when needed. Memory is only taken once it is written.
        dtype, device: of the buffers.

    Attributes:
        buffers: key and value of each layer, ``[batch, kv_heads, capacity, head_dim]``.
        bindings: ONNX Runtime's bindings to the buffers by row slice; kept by the decoder, dropped when they move.
    """

    is_compileable = False

    def __init__(self, layers: int, batch: int, kv_heads: int, head_dim: int, capacity: int, dtype, device):
        self._shape = (batch, kv_heads, capacity, head_dim)
        self.buffers = [torch.empty(self._shape, dtype=dtype, device=device) for _ in range(2 * layers)]
        self.bindings: dict = {}
        self._columns = torch.zeros(batch, 0, dtype=torch.bool)  # [B, columns]: False where a row has padding

    @property
    def batch(self) -> int:
        return self._shape[0]

    @property
    def capacity(self) -> int:
        return self._shape[2]

    @property
    def nbytes(self) -> int:
        """Of the buffers, what is free included."""
        return sum(buffer.nbytes for buffer in self.buffers)

    @property
    def lengths(self) -> list[int]:
        """Positions in use, row by row."""
        return self._columns.sum(1).tolist()

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Columns held, padding included."""
        return self._columns.shape[1]

    def get_max_cache_shape(self, layer_idx: int = 0) -> int:
        return -1  # it grows

    def reserve(self, positions: int) -> None:
        """Make room for ``positions`` in all."""
        if positions <= self.capacity:
            return
        used = max(self.lengths, default=0)
        self._shape = (*self._shape[:2], positions + _SPARE, self._shape[3])
        grown = [torch.empty(self._shape, dtype=b.dtype, device=b.device) for b in self.buffers]
        for new, old in zip(grown, self.buffers):
            new[:, :, :used] = old[:, :, :used]
        self._replace(grown)

    def append(self, columns: torch.Tensor) -> None:
        """Count what a step has written: bool ``[B, T]``, False for padding."""
        self._columns = torch.cat([self._columns, columns], dim=1)

    def crop(self, length: int) -> None:
        """Forget all but the first ``length`` columns; a negative length forgets so many of the last."""
        self._columns = self._columns[:, : length if length >= 0 else self.get_seq_length() + length]

    def copy(self, length: int | None = None, capacity: int = 0) -> KVCache:
        """An independent cache of the first ``length`` columns (default: all)."""
        columns = self._columns[:, :length]
        used = int(columns.sum(1).max()) if columns.numel() else 0
        batch, kv_heads, _, head_dim = self._shape
        first = self.buffers[0]
        layers = len(self.buffers) // 2
        new = KVCache(layers, batch, kv_heads, head_dim, max(capacity, used + _SPARE), first.dtype, first.device)
        for target, source in zip(new.buffers, self.buffers):
            target[:, :, :used] = source[:, :, :used]
        new._columns = columns
        return new

    @classmethod
    def from_legacy(cls, layers: Sequence[tuple[torch.Tensor, torch.Tensor]], capacity: int = 0) -> KVCache:
        """From ``((key, value), …)`` by layer, each ``[B, kv_heads, length, head_dim]`` without padding; copied."""
        key = layers[0][0]
        batch, kv_heads, used, head_dim = key.shape
        new = cls(len(layers), batch, kv_heads, head_dim, max(capacity, used + _SPARE), key.dtype, key.device)
        for target, source in zip(new.buffers, (tensor for layer in layers for tensor in layer)):
            target[:, :, :used] = source
        new._columns = torch.ones(batch, used, dtype=torch.bool)
        return new

    def reorder_cache(self, beam_idx: torch.LongTensor) -> None:
        """Take the rows in another order, as beam search asks for."""
        self._columns = self._columns[beam_idx.cpu()]
        self._replace([buffer.index_select(0, beam_idx.to(buffer.device)) for buffer in self.buffers])

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Each row ``repeats`` times."""
        rows = torch.arange(self.batch).repeat_interleave(repeats)
        self._shape = (len(rows), *self._shape[1:])
        self.reorder_cache(rows)

    def _replace(self, buffers: list[torch.Tensor]) -> None:
        self.buffers = buffers
        self.bindings.clear()

    def __len__(self) -> int:
        return len(self.buffers) // 2

    def __getitem__(self, layer: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Key and value of a layer, as far as they are in use: views ``[B, kv_heads, length, head_dim]``."""
        used = max(self.lengths, default=0)
        key, value = self.buffers[2 * layer : 2 * layer + 2]
        return key[:, :, :used], value[:, :, :used]

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        return (self[layer] for layer in range(len(self)))

    def __repr__(self) -> str:
        return f"KVCache({len(self)} layers, {self.get_seq_length()} positions, room for {self.capacity})"
