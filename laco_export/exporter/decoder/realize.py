"""From the graph of names to a decoder that ONNX Runtime runs: its weights, in a precision.

Each weight is taken from the model, brought to its precision and appended to the weight file before the next one is
touched, so that writing takes the memory of one matrix. A matrix of floats is written as torch holds it, ``[N, K]``,
and read transposed (``FusedMatMul``): the head's rows are the embedding's rows, and a tied model stores them once.

==============================  ==============================================================================
``laco::Linear``                ``FusedMatMul`` and ``Add``, or ``MatMulNBits``
``laco::RMSNorm``               ``SimplifiedLayerNormalization``; with the residual's ``Add`` before it
                                ``SkipSimplifiedLayerNormalization``
``laco::Weight``                an initializer
==============================  ==============================================================================

The head's rows are read by several products, a slice each, and their outputs joined. ONNX Runtime packs one product's
weights while the file's pages of the same weights are mapped: with the head in one piece, the largest matrix was in
memory twice at the peak of loading.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import helper

from ... import __version__
from ...embedding_table import EmbeddingStorage, StoredTensor
from ...errors import ExportError
from ..external_data import WeightFile
from ..n_bits import RoundedMatrix, quantize_blocks, stack_rounded
from .precision import ACCURACY_LEVEL, DecoderPrecision
from .reduced_head import TOKEN_IDS, scatter_logits
from .skeleton import COSINES, HEAD, SINES, rotary_tables

MICROSOFT = "com.microsoft"
LACO = "laco"
HEAD_SLICES = 8
"""Of a 0.5B model's head, 17 MB each in 8 bits, 68 MB in FP32."""


class Realizer:
    """Writes one decoder.

    Args:
        language_model: the model that was traced; only read.
        weights: the open weight file.
        folder: its folder's name in the bundle, for the embedding's record.
        rounded: the layers' matrices by module, as :func:`.rounding.round_layers` gives them; empty for floats.
        token_ids: int64 ``[K]``, ascending: the tokens that the head has rows for; None for all.
    """

    def __init__(
        self,
        language_model,
        precision: DecoderPrecision,
        weights: WeightFile,
        folder: str,
        rounded: Mapping[str, RoundedMatrix],
        token_ids: np.ndarray | None = None,
    ):
        self.model, self.precision, self.weights, self.folder = language_model, precision, weights, folder
        self.rounded, self.token_ids = rounded, token_ids
        self.dtype = np.dtype(precision.dtype)
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._references: dict[str, onnx.TensorProto] = {}
        self._tables: dict[str, np.ndarray] = {}

    def realize(self, graph: onnx.ModelProto) -> onnx.ModelProto:
        """The decoder's ONNX model; its large initializers are in the weight file when this returns."""
        cosines, sines = rotary_tables(self.model)
        self._tables = {COSINES: cosines.numpy(), SINES: sines.numpy()}
        for node in graph.graph.node:
            if node.domain == LACO:
                getattr(self, f"_{node.op_type.lower()}")(
                    node, {a.name: helper.get_attribute_value(a) for a in node.attribute}
                )
            else:
                self.nodes.append(node)
        self.nodes = fuse_residual_norms(self.nodes)
        model = helper.make_model(
            helper.make_graph(self.nodes, "decoder", graph.graph.input, graph.graph.output, self.initializers),
            opset_imports=[next(o for o in graph.opset_import if o.domain == ""), helper.make_opsetid(MICROSOFT, 1)],
            ir_version=graph.ir_version,
            producer_name="laco-export",
            producer_version=__version__,
        )
        self._declare(model.graph)
        return model

    def embedding(self) -> EmbeddingStorage:
        """Where the embedding's rows are: the head's, or written now where the two are not tied or the head has only
        some of them."""
        table = self.model.get_input_embeddings().weight
        head = self.model.get_output_embeddings().weight
        tied = table.data_ptr() == head.data_ptr() and self.token_ids is None
        if not tied:
            self._matrix("embed_tokens", _numpy(table), *self.precision.of_head())
        name = HEAD if tied else "embed_tokens"
        if self.precision.head_bits is None:
            rows = self._stored(f"{name}.weight")
            return EmbeddingStorage(rows, table.shape[1], tied)
        blocks, scales = self._stored(f"{name}.blocks"), self._stored(f"{name}.scales")
        return EmbeddingStorage(blocks, table.shape[1], tied, scales=scales, bits=self.precision.head_bits)

    def _weight(self, node: onnx.NodeProto, attributes: dict) -> None:
        name = attributes["weight"].decode()
        self._add(node.output[0], self._tables[name])

    def _rmsnorm(self, node: onnx.NodeProto, attributes: dict) -> None:
        name, heads = attributes["weight"].decode(), attributes["heads"]
        weight = self._add(f"{name}.weight", _numpy(self.model.get_submodule(name).weight))
        source, target = node.input[0], node.output[0]
        if not heads:
            self._normalize(source, weight, target, attributes["epsilon"])
            return
        # [B, T, heads * d] -> [B, T, heads, d], where 0 keeps an axis
        apart, together = (
            self._small(f"{target}.{k}", v) for k, v in (("apart", [0, 0, heads, -1]), ("together", [0, 0, -1]))
        )
        self._node("Reshape", [source, apart], f"{target}.heads")
        self._normalize(f"{target}.heads", weight, f"{target}.normalized", attributes["epsilon"])
        self._node("Reshape", [f"{target}.normalized", together], target)

    def _normalize(self, source: str, weight: str, target: str, epsilon: float) -> None:
        self._node("SimplifiedLayerNormalization", [source, weight], target, axis=-1, epsilon=epsilon, stash_type=1)

    def _linear(self, node: onnx.NodeProto, attributes: dict) -> None:
        modules = [(name, self.model.get_submodule(name)) for name in attributes["weights"].decode().split(",")]
        name = joined_name([part for part, _ in modules])
        if name == HEAD:
            self._head(node, modules[0][1])
            return
        shape = (sum(module.out_features for _, module in modules), modules[0][1].in_features)
        bias = ""
        if any(module.bias is not None for _, module in modules):
            bias = self._add(f"{name}.bias", np.concatenate([_bias(module) for _, module in modules]))
        if self.precision.bits is not None:
            matrix = stack_rounded([self.rounded[part] for part, _ in modules])
            inputs = self._rounded_matrix(name, matrix)
            self._product(node.input[0], inputs, bias, node.output[0], shape, matrix.bits, matrix.block_size)
            return
        bits, block_size = self.precision.of_blocks()
        inputs = self._matrix(name, _stack([module.weight for _, module in modules]), bits, block_size)
        self._product(node.input[0], inputs, bias, node.output[0], shape, bits, block_size)

    def _head(self, node: onnx.NodeProto, module) -> None:
        """The head's product, and where it has only some rows their logits in their places."""
        rows = slice(None) if self.token_ids is None else self.token_ids
        matrix = _numpy(module.weight)[rows]
        bias = "" if module.bias is None else self._add(f"{HEAD}.bias", _numpy(module.bias)[rows])
        bits, block_size = self.precision.of_head()
        inputs, target = self._matrix(HEAD, matrix, bits, block_size), node.output[0]
        if self.token_ids is None:
            self._sliced_product(node.input[0], inputs, bias, target, matrix.shape, bits, block_size)
            return
        kept_logits = f"{target}.kept"
        self._sliced_product(node.input[0], inputs, bias, kept_logits, matrix.shape, bits, block_size)
        if self.dtype != np.float32:
            self._node("Cast", [kept_logits], f"{kept_logits}.wide", to=onnx.TensorProto.FLOAT)
            kept_logits += ".wide"
        nodes, width = scatter_logits(kept_logits, target, module.out_features)
        self.nodes += nodes
        self.initializers += [self.weights.add(TOKEN_IDS, self.token_ids.astype(np.int32)), width]

    def _sliced_product(self, source, inputs: list[str], bias: str, target: str, shape, bits, block_size) -> None:
        """As :meth:`_product`, by slices of the matrix's rows that ONNX Runtime maps and packs one by one."""
        rows, columns = shape
        count = min(HEAD_SLICES, rows)
        parts = []
        for start, stop in pairwise(rows * index // count for index in range(count + 1)):
            *part, part_bias = (self._slice(name, start, stop, rows) if name else "" for name in (*inputs, bias))
            parts.append(f"{target}[{start}]")
            self._product(source, part, part_bias, parts[-1], (stop - start, columns), bits, block_size)
        for name in filter(None, (*inputs, bias)):
            self.initializers.remove(self._references[name])
        self._node("Concat", parts, target, axis=-1)

    def _product(self, source, inputs: list[str], bias: str, target: str, shape, bits: int | None, block_size) -> None:
        """``source [B, T, K]`` times a stored matrix ``[N, K]``, plus a bias or ``""``."""
        if bits is None:
            product = f"{target}.product" if bias else target
            self._node("FusedMatMul", [source, *inputs], product, MICROSOFT, transB=1)
            if bias:
                self._node("Add", [product, bias], target)
            return
        sizes = {"N": shape[0], "K": shape[1], "bits": bits, "block_size": block_size}
        read = [source, *inputs]
        if bias:
            read += [""] * (5 - len(read)) + [bias]  # after zero points and reordering
        self._node(
            "MatMulNBits",
            read,
            target,
            MICROSOFT,
            accuracy_level=ACCURACY_LEVEL,
            **sizes,
        )

    def _slice(self, name: str, start: int, stop: int, rows: int) -> str:
        """Some rows of a stored tensor of ``rows`` (or of as many equal parts, the scales) as an initializer."""
        part = onnx.TensorProto()
        part.CopyFrom(self._references[name])
        part.name = slice_name(name, start)
        part.dims[0] = part.dims[0] // rows * (stop - start)
        entries = {entry.key: entry for entry in part.external_data}
        row_bytes = int(entries["length"].value) // rows
        entries["offset"].value = str(int(entries["offset"].value) + start * row_bytes)
        entries["length"].value = str((stop - start) * row_bytes)
        self.initializers.append(part)
        return part.name

    def _matrix(self, name: str, matrix: np.ndarray, bits: int | None, block_size: int) -> list[str]:
        """Write ``[N, K]`` floats, or blocks and scales, and return their names."""
        if bits is None:
            return [self._add(f"{name}.weight", matrix)]
        blocks, scales = quantize_blocks(matrix, bits, block_size)
        return [self._add(f"{name}.blocks", blocks), self._add(f"{name}.scales", scales)]

    def _rounded_matrix(self, name: str, matrix: RoundedMatrix) -> list[str]:
        """Write blocks, scales and, where there are some, zero points, and return their names."""
        names = [self._add(f"{name}.blocks", matrix.blocks), self._add(f"{name}.scales", matrix.scales.reshape(-1))]
        if matrix.zero_points is not None:
            names.append(self._add(f"{name}.zero_points", matrix.packed_zero_points().reshape(-1)))
        return names

    def _add(self, name: str, values: np.ndarray) -> str:
        if values.dtype != np.uint8:
            values = self._float(name, values)
        tensor = self.weights.add(name, values)
        self._references[name] = tensor
        if not name.startswith("embed_tokens."):  # of an untied model: no node reads it
            self.initializers.append(tensor)
        return name

    def _float(self, name: str, values: np.ndarray) -> np.ndarray:
        with np.errstate(over="ignore"):
            converted = values.astype(self.dtype, copy=False)
        if not np.isfinite(converted).all():
            if not np.isfinite(values).all():
                raise ExportError(
                    f"the language model's weight '{name}' holds inf or NaN",
                    todo="train or download the checkpoint again",
                )
            raise ExportError(
                f"weight '{name}' does not fit {self.dtype}", given=f"values up to {np.abs(values).max():.3g}"
            )
        return converted

    def _small(self, name: str, values: list[int]) -> str:
        self.initializers.append(onnx.numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def _node(self, op: str, inputs: list[str], output: str, domain: str = "", **attributes) -> None:
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, domain=domain, **attributes))

    def _stored(self, name: str) -> StoredTensor:
        tensor = self._references[name]
        entries = {entry.key: entry.value for entry in tensor.external_data}
        dtype = str(helper.tensor_dtype_to_np_dtype(tensor.data_type))
        return StoredTensor(f"{self.folder}/{entries['location']}", int(entries["offset"]), dtype, tuple(tensor.dims))

    def _declare(self, graph: onnx.GraphProto) -> None:
        """The inputs' and outputs' dtypes; logits are FP32 in every precision, as samplers want them."""
        element = helper.np_dtype_to_tensor_dtype(self.dtype)
        for value in (*graph.input, *graph.output):
            kind = value.type.tensor_type
            if kind.elem_type == onnx.TensorProto.FLOAT and value.name != "logits":
                kind.elem_type = element
            if value.name.startswith("present"):
                kind.shape.dim[2].Clear()
                kind.shape.dim[2].dim_param = "present_sequence_length"
        if self.dtype != np.float32 and self.token_ids is None:  # else they are wide already
            head = next(node for node in graph.node if "logits" in node.output)
            head.output[list(head.output).index("logits")] = "logits.narrow"
            graph.node.append(
                helper.make_node("Cast", ["logits.narrow"], ["logits"], name="logits.cast", to=onnx.TensorProto.FLOAT)
            )


def joined_name(names: list[str]) -> str:
    """``….q_proj`` and ``….k_proj`` stacked are ``….qk_proj``."""
    if len(names) == 1:
        return names[0]
    kinds = (name.rpartition(".")[2].removesuffix("_proj") for name in names)
    return f"{names[0].rpartition('.')[0]}.{''.join(kinds)}_proj"


def slice_name(name: str, start: int) -> str:
    return f"{name}[{start}]"


def whole_name(name: str) -> str:
    """The tensor that a slice is of; any other name as it is."""
    return name.partition("[")[0]


def fuse_residual_norms(nodes: list[onnx.NodeProto]) -> list[onnx.NodeProto]:
    """``Add`` and the norm that reads its sum as one ``SkipSimplifiedLayerNormalization``, which hands both out.

    ONNX Runtime's own optimiser does not fuse them on the CPU provider. It takes 1 % of a decode step off.
    """
    producer = {output: node for node in nodes for output in node.output}
    uses: dict[str, int] = {}
    for node in nodes:
        for name in node.input:
            uses[name] = uses.get(name, 0) + 1
    fused, dropped = {}, set()
    for node in nodes:
        add = producer.get(node.input[0]) if node.op_type == "SimplifiedLayerNormalization" else None
        if add is None or add.op_type != "Add" or "/self_attn/" in add.output[0]:
            continue
        total = add.output[0]
        epsilon = next(a.f for a in node.attribute if a.name == "epsilon")
        outputs = [node.output[0]] + (["", "", total] if uses[total] > 1 else [])  # mean and deviation are not wanted
        fused[id(node)] = helper.make_node(
            "SkipSimplifiedLayerNormalization",
            [*add.input, node.input[1]],
            outputs,
            name=node.name,
            domain=MICROSOFT,
            epsilon=epsilon,
        )
        dropped.add(id(add))
    return [fused.get(id(node), node) for node in nodes if id(node) not in dropped]


def write_decoder(
    graph: Path,
    language_model,
    precision: DecoderPrecision,
    folder: Path,
    rounded: Mapping[str, RoundedMatrix],
    token_ids: np.ndarray | None = None,
) -> EmbeddingStorage:
    """Replace the traced graph at ``graph`` by the decoder, its weights in ``<graph>_data`` beside it; arguments as of
    :class:`Realizer`."""
    traced = onnx.load(str(graph), load_external_data=False)
    with WeightFile(graph.with_name(f"{graph.name}_data")) as weights:
        realizer = Realizer(language_model, precision, weights, folder.name, rounded, token_ids)
        model = realizer.realize(traced)
        embedding = realizer.embedding()
    graph.write_bytes(model.SerializeToString())
    return embedding


def _numpy(weight) -> np.ndarray:
    """A parameter as numpy; float32 ones share their memory."""
    return weight.detach().float().numpy()


def _stack(weights: list) -> np.ndarray:
    """``[N, K]`` of one module or of several, their rows one below the other."""
    if len(weights) == 1:
        return _numpy(weights[0])
    return np.concatenate([_numpy(weight) for weight in weights])


def _bias(module) -> np.ndarray:
    return np.zeros(module.out_features, np.float32) if module.bias is None else _numpy(module.bias)
