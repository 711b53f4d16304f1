"""``laco-engine inspect --graph``: the merge's part of the vision graph as a picture, drawn with PIL alone.

Each box is a node: its operator, the PyTorch module that it was traced from, and the dtype and shape that it gives.
Data flows from the top down; a node stands one row below the last of its inputs. The longest chain stands in the first
column, what runs beside it (the residual) in the columns to the right.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from PIL import Image, ImageDraw, ImageFont

from laco_export.errors import BundleError

_BOX, _GAP = (340, 66), (40, 44)  # pixels: a node's box, and the space between two
_MARGIN, _TITLE = 24, 34
_LINE, _TEXT = (110, 110, 110), (60, 60, 60)
_COLOURS = {
    "MatMul": (206, 224, 255),
    "Gemm": (206, 224, 255),
    "Conv": (206, 224, 255),
    "LayerNormalization": (216, 240, 214),
    "Transpose": (255, 226, 200),
    "Reshape": (255, 242, 204),
    "ReduceMean": (240, 214, 240),
    "AveragePool": (240, 214, 240),
    "Cast": (230, 230, 230),
}
_OTHER, _OUTSIDE = (245, 245, 245), (255, 255, 255)
_MERGE = re.compile(r"(?:^|\.)(compressors\.(?:path[_\d]+\.)?block_\d+)(?=[./]|$)")
_DTYPES = {"float": "fp32", "float16": "fp16", "bfloat16": "bf16"}
_ROLES = ("weight", "bias", "shape", "axes", "scale")


@dataclass
class _Box:
    """A node of the region, or one that feeds it or reads from it; ``before`` names the tensors that it reads."""

    title: str
    lines: list[str]
    colour: tuple[int, int, int]
    before: list[str] = field(default_factory=list)
    row: int = 0
    column: int = 0


def draw_merge(path: Path) -> Image.Image:
    """Draw the region of an ONNX file whose nodes come from the compressor, with the nodes before and after it.

    Raises:
        BundleError: the graph has no merge.
    """
    proto = onnx.load(str(path), load_external_data=False)
    merges = merge_names(proto.graph)
    if not merges:
        raise BundleError(
            f"'{path}' has no merge to draw",
            given="no node was traced from vision_model.compressors",
            todo="leave out --graph",
        )
    pictures = []
    for merge in merges:
        nodes = merge_nodes(proto.graph, merge)
        boxes = _boxes(proto, nodes)
        _place(boxes)
        pictures.append(_draw(boxes, title=f"{path.name}: the {len(nodes)} nodes of {merge}"))
    return _stacked(pictures)


def merge_names(graph: onnx.GraphProto) -> list[str]:
    """The merges of the graph in order: ``compressors.block_12``; of several ``compressors.path_6_18.block_6`` …"""
    matches = (_MERGE.search(node.name) for node in graph.node)
    return list(dict.fromkeys(match[1] for match in matches if match))


def merge_nodes(graph: onnx.GraphProto, merge: str) -> list[onnx.NodeProto]:
    """The nodes that were traced from the compressor ``merge``, and whatever lies on a path between two of them.

    A Cast is named after the node whose output it casts, the last one of a merge after the merge: only those between
    count.
    """
    is_own = lambda node: (match := _MERGE.search(node.name)) is not None and match[1] == merge
    own = [node for node in graph.node if is_own(node) and node.op_type != "Cast"]
    after = {output for node in own for output in node.output}
    for node in graph.node:  # in topological order, as ONNX asks
        if after & set(node.input):
            after |= set(node.output)
    before = {name for node in own for name in node.input}
    for node in reversed(graph.node):
        if before & set(node.output):
            before |= set(node.input)
    named = {node.name for node in own}
    between = lambda node: after & set(node.output) and before & set(node.output)
    return [node for node in graph.node if node.name in named or between(node)]


def _boxes(proto: onnx.ModelProto, nodes: list[onnx.NodeProto]) -> dict[str, _Box]:
    """Boxes by the name of the tensor that each gives, in the order of the graph."""
    types = {value.name: _type(value) for value in onnx.shape_inference.infer_shapes(proto).graph.value_info}
    types |= {value.name: _type(value) for value in (*proto.graph.input, *proto.graph.output)}
    weights = {tensor.name: list(tensor.dims) for tensor in proto.graph.initializer}
    makers = {output: node for node in proto.graph.node for output in node.output}
    inside = {output for node in nodes for output in node.output}
    boxes: dict[str, _Box] = {}
    for node in nodes:
        for name in node.input:
            if name in makers and name not in inside and name not in boxes:
                boxes[name] = _outside(makers[name], types.get(name, ""), "from ")
    for node in nodes:
        constants = [f"{_role(name)} {weights[name]}" for name in node.input if weights.get(name)]
        gives = types.get(node.output[0], "") + (f", {', '.join(constants)}" if constants else "")
        before = [name for name in node.input if name in makers]
        boxes[node.output[0]] = _Box(node.op_type, [_module(node), gives], _colour(node), before)
    for node in proto.graph.node:
        if not inside & set(node.output) and (read := [name for name in node.input if name in inside]):
            boxes[f"after {node.output[0]}"] = box = _outside(node, types.get(node.output[0], ""), "to ")
            box.before = read
    return boxes


def _outside(node: onnx.NodeProto, gives: str, direction: str) -> _Box:
    return _Box(f"{direction}{node.op_type}", [_module(node), gives], _OUTSIDE)


def _colour(node: onnx.NodeProto) -> tuple[int, int, int]:
    return _COLOURS.get(node.op_type, _OTHER)


def _module(node: onnx.NodeProto) -> str:
    """The PyTorch module, without ``vision_model.``."""
    module, _, _ = node.name.partition("/")
    return module.removeprefix("vision_model.").removeprefix("encoder.") or node.name


def _place(boxes: dict[str, _Box]) -> None:
    """Rows by depth; columns by taking away the longest chain, again and again."""
    for box in boxes.values():  # in the order of the graph: inputs are placed before their readers
        box.row = max((boxes[name].row + 1 for name in box.before if name in boxes), default=0)
    left, taken = dict(boxes), set()
    while left:
        chain = _longest_chain(left)
        rows = {left[name].row for name in chain}
        column = next(c for c in range(len(boxes)) if not any((row, c) in taken for row in rows))
        for name in chain:
            left[name].column = column
            taken.add((left[name].row, column))
            del left[name]


def _longest_chain(boxes: dict[str, _Box]) -> list[str]:
    chains: dict[str, list[str]] = {}
    for name, box in boxes.items():
        chains[name] = [*max((chains[source] for source in box.before if source in chains), key=len, default=[]), name]
    return max(chains.values(), key=len)


def _draw(boxes: dict[str, _Box], *, title: str) -> Image.Image:
    columns = 1 + max(box.column for box in boxes.values())
    rows = 1 + max(box.row for box in boxes.values())
    width = 2 * _MARGIN + columns * _BOX[0] + (columns - 1) * _GAP[0]
    height = 2 * _MARGIN + _TITLE + rows * _BOX[1] + (rows - 1) * _GAP[1]
    image = Image.new("RGB", (max(width, 640), height), "white")
    pen = ImageDraw.Draw(image)
    bold, font = ImageFont.load_default(15), ImageFont.load_default(12)
    pen.text((_MARGIN, 14), title, fill="black", font=bold)
    taken = {(box.row, box.column) for box in boxes.values()}
    for box in boxes.values():
        sources = [boxes[name] for name in box.before if name in boxes]
        for number, source in enumerate(sources):
            _draw_edge(pen, source, box, 18 * (number - (len(sources) - 1) / 2), taken)
    for box in boxes.values():  # over the lines
        x, y = _corner(box)
        pen.rounded_rectangle((x, y, x + _BOX[0], y + _BOX[1]), 6, fill=box.colour, outline=(120, 120, 120))
        pen.text((x + 10, y + 6), box.title, fill="black", font=bold)
        for row, line in enumerate(box.lines):
            pen.text((x + 10, y + 26 + 17 * row), _cut(line, font), fill=_TEXT, font=font)
    return image


def _stacked(pictures: list[Image.Image]) -> Image.Image:
    """One below the other."""
    whole = Image.new("RGB", (max(picture.width for picture in pictures), sum(p.height for p in pictures)), "white")
    top = 0
    for picture in pictures:
        whole.paste(picture, (0, top))
        top += picture.height
    return whole


def _draw_edge(pen: ImageDraw.ImageDraw, source: _Box, target: _Box, shift: float, taken: set) -> None:
    """A line of right angles that runs down a free column: the source's, the target's or the space beside them."""
    (from_x, from_y), (x, y) = _corner(source), _corner(target)
    start, end = (from_x + _BOX[0] // 2, from_y + _BOX[1]), (x + _BOX[0] // 2 + shift, y)
    free = lambda column: not any((row, column) in taken for row in range(source.row + 1, target.row))
    if free(source.column):
        down = start[0] if source.column != target.column else end[0]
    else:
        down = end[0] if free(target.column) else from_x + _BOX[0] + _GAP[0] // 2
    turns = [(start[0], start[1] + 14), (down, start[1] + 14), (down, y - 18), (end[0], y - 18)]
    pen.line([start, *turns, end], fill=_LINE, width=2)
    pen.polygon([(end[0] - 5, y - 9), (end[0] + 5, y - 9), end], fill=_LINE)


def _corner(box: _Box) -> tuple[int, int]:
    return _MARGIN + box.column * (_BOX[0] + _GAP[0]), _MARGIN + _TITLE + box.row * (_BOX[1] + _GAP[1])


def _type(value: onnx.ValueInfoProto) -> str:
    tensor = value.type.tensor_type
    name = onnx.TensorProto.DataType.Name(tensor.elem_type).lower()
    return f"{_DTYPES.get(name, name)} {[dim.dim_value for dim in tensor.shape.dim]}"


def _role(name: str) -> str:
    """What a constant is to its node: ``weight``, ``bias``, ``shape``."""
    words = name.replace(":", ".").replace("/", ".").replace("_", ".").split(".")
    return next((role for role in _ROLES if role in words), "constant")


def _cut(line: str, font: ImageFont.ImageFont) -> str:
    if font.getlength(line) <= _BOX[0] - 18:
        return line
    while font.getlength(line + "…") > _BOX[0] - 18:
        line = line[:-1]
    return line + "…"
