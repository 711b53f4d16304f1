"""What the fields of ``laco.json`` must agree on, beside the type and range of each (:mod:`.manifest_schema`).

::

    fields = read_fields(json.loads(text))   # or FieldError, which names the field

The graphs' shapes are those of the preprocessing and the token grid, each file that is named is one of those that are
listed, tokens are rows of the embedding, and stored tensors end before their files do. A manifest that passes can be
read by all of this project's code without another look at it. What is in the files themselves is checked where they are
opened.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np

from .errors import ConfigError
from .field_types import FieldError
from .layout_rules import DEFAULT_TOKEN_LAYOUT
from .manifest_schema import EIGHT_BIT_PRODUCTS, MANIFEST, MOST_ELEMENTS
from .preprocessing import ImagePreprocessing
from .tiling import Tiling
from .token_layouts import check_token_layout


def read_fields(document: object) -> dict:
    """The manifest's fields, each of its type and in agreement with the others.

    Raises:
        FieldError: the first field that is not.
    """
    fields = MANIFEST.read(document, "")
    vision, preprocessing = fields["vision"], _preprocessing(fields["preprocessing"])
    _check_files(fields)
    _check_merges(fields["compression"])
    width = vision["graphs"][0]["output"]["shape"][-1]
    for place, graphs in _graphs_of(vision):
        _check_graphs(place, graphs, (3, preprocessing.height, preprocessing.width), vision["token_grid"], width)
    _check_twin(vision)
    _check_tiling(vision, preprocessing)
    if decoder := fields.get("decoder"):
        _check_decoder(decoder, fields["files"], width)
    return fields


def _graphs_of(vision: Mapping) -> Iterator[tuple[str, list[dict]]]:
    yield "vision.graphs", vision["graphs"]
    if fallback := vision.get("fallback"):
        yield "vision.fallback.graphs", fallback["graphs"]
    if twin := vision.get("twin"):
        yield "vision.twin.graphs", twin["graphs"]


def _preprocessing(config: Mapping) -> ImagePreprocessing:
    try:
        return ImagePreprocessing.from_dict(config)
    except ConfigError as error:
        allowed = "" if error.allowed is None else f"; {error.allowed}"
        raise FieldError("preprocessing", error.given, f"what laco-export writes ({error.failed}{allowed})") from None
    except (KeyError, TypeError, ValueError) as error:
        raise FieldError("preprocessing.size", config.get("size"), f"what laco-export writes ({error})") from None


def _named_files(fields: Mapping) -> Iterator[tuple[str, str]]:
    """``(place, name)`` of each file that a field names."""
    vision, decoder = fields["vision"], fields.get("decoder")
    yield "golden", fields["golden"]
    if answers := fields.get("golden_answers"):
        yield "golden_answers", answers
    yield "vision.weights", vision["weights"]
    for place, graphs in _graphs_of(vision):
        for index, graph in enumerate(graphs):
            yield f"{place}[{index}].file", graph["file"]
    if fallback := vision.get("fallback"):
        yield "vision.fallback.weights", fallback["weights"]
    if newline := vision.get("image_newline"):
        yield "vision.image_newline", newline
    if statistics := (vision.get("calibration") or {}).get("statistics"):
        yield "vision.calibration.statistics", statistics
    if decoder:
        yield "decoder.graph", decoder["graph"]
        for name in ("rows", "scales"):
            if tensor := decoder["embedding"].get(name):
                yield f"decoder.embedding.{name}.file", tensor["file"]


def _check_merges(compression: Mapping) -> None:
    """Those of a path of several stand in their order, and are what the fields of the whole say."""
    merges = compression.get("merges")
    if merges is None:
        return
    blocks = [merge["block"] for merge in merges]
    if any(later <= earlier for earlier, later in pairwise(blocks)):
        raise FieldError("compression.merges", f"blocks {', '.join(map(str, blocks))}", "blocks that rise")
    for name, value in (("block", blocks[0]), ("ratio", math.prod(merge["ratio"] for merge in merges))):
        if compression[name] != value:
            raise FieldError(f"compression.{name}", compression[name], f"{value}: compression.merges says so")


def _check_files(fields: Mapping) -> None:
    for place, name in _named_files(fields):
        if name not in fields["files"]:
            raise FieldError(place, name, "a file of the bundle: one that files lists")


def _check_graphs(place: str, graphs: list[dict], picture: tuple[int, int, int], grid: list[int], width: int) -> None:
    batches = [graph["batch"] for graph in graphs]
    if len(set(batches)) != len(batches):
        raise FieldError(f"{place}: batch sizes", ", ".join(map(str, batches)), "each once")
    for index, graph in enumerate(graphs):
        shapes = {"input": (graph["batch"], *picture), "output": (graph["batch"], math.prod(grid), width)}
        for side, shape in shapes.items():
            stated = graph[side]["shape"]
            if tuple(stated) != shape:
                allowed = f"{list(shape)}: batch, preprocessing and token grid say so"
                raise FieldError(f"{place}[{index}].{side}.shape", str(stated), allowed)
            if math.prod(stated) > MOST_ELEMENTS:
                raise FieldError(f"{place}[{index}].{side}.shape", str(stated), f"at most {MOST_ELEMENTS:,} elements")


def _check_twin(vision: Mapping) -> None:
    if not (twin := vision.get("twin")):
        return
    if vision.get("products") != EIGHT_BIT_PRODUCTS:
        raise FieldError("vision.products", vision.get("products"), f"{EIGHT_BIT_PRODUCTS}: vision.twin says so")
    batches, stated = ([graph["batch"] for graph in graphs] for graphs in (vision["graphs"], twin["graphs"]))
    if stated != batches:
        allowed = f"{', '.join(map(str, batches))}, those of vision.graphs"
        raise FieldError("vision.twin.graphs: batch sizes", ", ".join(map(str, stated)), allowed)


def _check_tiling(vision: Mapping, preprocessing: ImagePreprocessing) -> None:
    token_layout = vision.get("token_layout", DEFAULT_TOKEN_LAYOUT)
    try:
        tiling = Tiling.from_mapping(vision["tiling"]) if vision.get("tiling") else None
        check_token_layout(token_layout, tiling)
    except ConfigError as error:
        raise FieldError("vision.tiling", error.given, error.failed) from None
    if tiling is None:
        return
    if (tiling.tile, tiling.tile) != (preprocessing.height, preprocessing.width):
        raise FieldError("vision.tiling.tile", tiling.tile, f"{preprocessing.height}, the side of the encoder's input")
    if tiling.has_newline and not vision.get("image_newline"):
        raise FieldError("vision.image_newline", "missing", "a file: vision.tiling asks for the newline's embedding")


def _check_decoder(decoder: Mapping, files: Mapping, width: int) -> None:
    folder, embedding = f"{decoder['folder']}/", decoder["embedding"]
    rows, scales, bits = embedding["rows"], embedding.get("scales"), embedding.get("bits")
    vocabulary = rows["shape"][0]
    if not decoder["graph"].startswith(folder) or "/" in decoder["graph"].removeprefix(folder):
        raise FieldError("decoder.graph", decoder["graph"], f"a file in {folder}, decoder.folder")
    for place, value, allowed in (
        ("decoder.vocab_size", decoder["vocab_size"], vocabulary),
        ("decoder.embedding.hidden_size", embedding["hidden_size"], decoder["hidden_size"]),
        ("decoder.hidden_size", decoder["hidden_size"], width),
    ):
        if value != allowed:
            raise FieldError(place, value, f"{allowed}, as the embedding and the vision graphs have it")
    for place, token in [("decoder.image_token_id", decoder["image_token_id"])] + [
        (f"decoder.eos_token_ids[{index}]", token) for index, token in enumerate(decoder["eos_token_ids"])
    ]:
        if token >= vocabulary:
            raise FieldError(place, token, f"a row of the embedding: 0 … {vocabulary - 1:,}")
    quantised = rows["dtype"] == "uint8"
    if (scales is not None, bits in (4, 8), len(rows["shape"]) == 3) != (quantised,) * 3:
        allowed = "uint8 [V, blocks, bytes] with scales and 4 or 8 bits, or floats [V, D] without"
        raise FieldError("decoder.embedding", f"{rows['dtype']} {rows['shape']}, {bits} bits", allowed)
    per_row = math.prod(rows["shape"][1:]) * (8 // bits if quantised else 1)
    sound = per_row >= decoder["hidden_size"] if quantised else rows["shape"][1:] == [decoder["hidden_size"]]
    if not sound:
        raise FieldError("decoder.embedding.rows.shape", str(rows["shape"]), "rows of decoder.hidden_size values")
    if quantised and (math.prod(scales["shape"]) != math.prod(rows["shape"][:2]) or scales["dtype"] == "uint8"):
        raise FieldError("decoder.embedding.scales", f"{scales['dtype']} {scales['shape']}", "a float for each block")
    for name, tensor in (("rows", rows), ("scales", scales)):
        if tensor is None:
            continue
        end = tensor["offset"] + np.dtype(tensor["dtype"]).itemsize * math.prod(tensor["shape"])
        size = files[tensor["file"]]["bytes"]
        if end > size:
            raise FieldError(f"decoder.embedding.{name}", f"bytes up to {end:,}", f"the file's {size:,} bytes")
