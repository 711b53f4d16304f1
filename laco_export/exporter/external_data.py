"""ONNX files over one shared weight file.

Several graphs (one per batch size) refer to the same bytes of ``vision.data``: equal constants are written once,
whatever graph they are in. No weight passes through a protobuf message.
"""

from __future__ import annotations

import hashlib
import math
import weakref
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_graphsurgeon as gs

from .. import __version__

EXTERNAL_BYTES = 1024
"""Constants from this size on go to the weight file; shapes, axes and scalars stay where tools read them."""

INT4 = np.dtype(ml_dtypes.int4)
"""numpy keeps one a byte; ONNX stores two, the first in the low half."""


class ConvertedConstant(gs.Constant):
    """A constant in another dtype whose values are converted whenever they are asked for, and never held.

    A half-precision copy of a graph so takes no memory beside the FP32 graph. What :attr:`values` gives is read-only:
    a change of it would be lost.

    Attributes:
        source: what is converted; None once values of its own were set.
    """

    def __init__(self, name: str, source: np.ndarray, dtype: np.dtype):
        super().__init__(name, np.zeros(0, dtype))
        self.source = source

    @property
    def values(self) -> np.ndarray:
        if self.source is None:
            return self._values
        converted = _converted(self.source, self.dtype).view()
        converted.flags.writeable = False
        return converted

    @values.setter
    def values(self, values: np.ndarray) -> None:
        self._values, self.source = values, None

    @property
    def shape(self) -> tuple[int, ...]:
        return (self._values if self.source is None else self.source).shape

    def copy(self) -> gs.Constant:
        return super().copy() if self.source is None else ConvertedConstant(self.name, self.source, self.dtype)


_PAGE = 4096  # large weights start at a page, so that a runtime can map them into memory
_LARGE = 1 << 20


class WeightFile:
    """Appends constants to one file and remembers where equal ones are."""

    def __init__(self, path: Path):
        self.path = path
        self._file = open(path, "wb")  # noqa: SIM115 - closed by __exit__
        self._places: dict[tuple, tuple[int, int]] = {}
        # By identity and dtype: graphs of several batches share arrays.
        self._keys: dict[tuple[int, np.dtype], tuple[weakref.ref, tuple]] = {}

    def __enter__(self) -> WeightFile:
        return self

    def __exit__(self, *_) -> None:
        self._file.close()

    @property
    def end(self) -> int:
        """Where the next constant is appended, in bytes."""
        return self._file.tell()

    def flush(self) -> None:
        """Give what was appended to those who read the file now."""
        self._file.flush()

    def cut_back(self, end: int) -> None:
        """Forget what was appended behind ``end``, which :attr:`end` was before: a graph is written once more."""
        self._file.flush()
        self._file.truncate(end)
        self._file.seek(end)
        self._places = {key: place for key, place in self._places.items() if place[0] < end}
        self._keys = {array: (held, key) for array, (held, key) in self._keys.items() if key in self._places}

    def add(self, name: str, values: np.ndarray, dtype: np.dtype | None = None) -> onnx.TensorProto:
        """Store ``values``, in ``dtype`` where one is given, and return an initializer that refers to them."""
        dtype = np.dtype(values.dtype if dtype is None else dtype)
        array, key = self._keys.get((id(values), dtype), (lambda: None, ()))
        if array() is not values:
            key = self._store(_converted(values, dtype))
            self._keys[id(values), dtype] = weakref.ref(values), key
        offset, length = self._places[key]
        tensor = onnx.TensorProto(
            name=name,
            data_type=onnx.helper.np_dtype_to_tensor_dtype(dtype),
            dims=values.shape,
            data_location=onnx.TensorProto.EXTERNAL,
        )
        for entry, value in (("location", self.path.name), ("offset", offset), ("length", length)):
            tensor.external_data.add(key=entry, value=str(value))
        return tensor

    def _store(self, values: np.ndarray) -> tuple:
        """Append ``values`` unless equal ones are there; the key of their place."""
        raw = np.ascontiguousarray(values)
        stored = _packed(raw) if raw.dtype == INT4 else raw
        view = memoryview(stored.reshape(-1).view(np.uint8))
        key = str(raw.dtype), raw.shape, hashlib.sha256(view).digest()
        if key not in self._places:
            step = _PAGE if stored.nbytes >= _LARGE else 64
            self._file.write(b"\0" * (-self._file.tell() % step))
            self._places[key] = (self._file.tell(), stored.nbytes)
            self._file.write(view)
        return key


def write_graph(graph: gs.Graph, path: Path, weights: WeightFile, *, ir_version: int) -> None:
    """Write ``graph`` to ``path``, its large constants to ``weights`` in the same folder."""
    large = [tensor for tensor in graph.tensors().values() if isinstance(tensor, gs.Constant) and _is_large(tensor)]
    references = {tensor.name: _add_constant(weights, tensor) for tensor in large}
    held = [dict(vars(tensor)) for tensor in large]
    try:
        for tensor in large:
            tensor.values = np.zeros(0, tensor.dtype)  # stands in while the message is built
        proto = gs.export_onnx(graph)
    finally:
        for tensor, attributes in zip(large, held):
            vars(tensor).update(attributes)
    for index, initializer in enumerate(proto.graph.initializer):
        if initializer.name in references:
            proto.graph.initializer[index].CopyFrom(references[initializer.name])
    del proto.opset_import[:]
    domains = {"": graph.opset, **{node.domain: 1 for node in graph.nodes if node.domain}}
    proto.opset_import.extend(onnx.helper.make_opsetid(*entry) for entry in domains.items())
    proto.ir_version, proto.producer_name, proto.producer_version = ir_version, "laco-export", __version__
    path.write_bytes(proto.SerializeToString())


def _is_large(constant: gs.Constant) -> bool:
    return math.prod(constant.shape) * np.dtype(constant.dtype).itemsize >= EXTERNAL_BYTES


def _add_constant(weights: WeightFile, constant: gs.Constant) -> onnx.TensorProto:
    if isinstance(constant, ConvertedConstant) and constant.source is not None:
        return weights.add(constant.name, constant.source, constant.dtype)
    return weights.add(constant.name, constant.values)


def _converted(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore"):  # a weight beyond the format becomes inf, which the comparison finds
        return values.astype(dtype, copy=False)


def graph_from_file(path: Path) -> gs.Graph:
    """Read an ONNX file; constants of its weight file are mapped, not read."""
    return graph_from_model(onnx.load(str(path), load_external_data=False), Path(path).parent)


def graph_from_model(proto: onnx.ModelProto, weights_folder: Path) -> gs.Graph:
    """The same of a model whose weight file is in a folder."""
    references = {tensor.name: tensor for tensor in proto.graph.initializer}
    graph = gs.import_onnx(proto)
    for tensor in graph.tensors().values():
        reference = references.get(tensor.name)
        if not isinstance(tensor, gs.Constant) or reference is None or not reference.external_data:
            continue
        entries = {entry.key: entry.value for entry in reference.external_data}
        where = {"mode": "c", "offset": int(entries.get("offset", 0))}
        dtype, file = onnx.helper.tensor_dtype_to_np_dtype(reference.data_type), weights_folder / entries["location"]
        if dtype == INT4:
            packed = np.memmap(file, np.uint8, shape=-(-math.prod(reference.dims) // 2), **where)
            tensor.values = _unpacked(packed, tuple(reference.dims))
        else:
            tensor.values = np.memmap(file, dtype, shape=tuple(reference.dims), **where)
        tensor.data_location = None
    return graph


def _packed(values: np.ndarray) -> np.ndarray:
    """uint8 ``[ceil(n / 2)]`` of INT4 values."""
    halves = values.astype(np.int8).reshape(-1).view(np.uint8) & 0x0F
    halves = np.pad(halves, (0, len(halves) % 2))
    return halves[0::2] | (halves[1::2] << 4)


def _unpacked(packed: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """What :func:`_packed` packed."""
    halves = np.stack([packed & 0x0F, packed >> 4], 1).reshape(-1)[: math.prod(shape)].astype(np.int8)  # [n]
    return np.where(halves > 7, halves - 16, halves).astype(np.int8).astype(INT4).reshape(shape)
