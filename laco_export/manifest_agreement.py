"""What the fields of ``laco.json`` must agree on, beside the type and range of each (:mod:`.manifest_schema`).

::

    fields = read_fields(json.loads(text))   # or FieldError, which names the field

The graphs' shapes are those of the preprocessing and the token grid, each file that is named is one of those that are
listed, tokens are rows of the embedding, stored tensors end before their files do, several depths are of one model and
no two of them are the same. A manifest that passes can be read by all of this project's code without another look at
it. What is in the files themselves is checked where they are opened.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import pairwise

import numpy as np

from .carried_depths import path_of
from .errors import ConfigError, DepthError
from .field_types import FieldError
from .layout_rules import DEFAULT_TOKEN_LAYOUT
from .manifest_schema import EIGHT_BIT_PRODUCTS, MANIFEST, MOST_ELEMENTS
from .merge_path import DepthPath
from .preprocessing import ImagePreprocessing
from .tiling import Tiling
from .token_layouts import check_token_layout


def read_fields(document: object) -> dict:
    """The manifest's fields, each of its type and in agreement with the others.

    Raises:
        FieldError: the first field that is not.
    """
    fields = MANIFEST.read(document, "")
    preprocessing, width = _preprocessing(fields["preprocessing"]), _width_of(fields)
    _check_depth(fields, preprocessing, width)
    if decoder := fields.get("decoder"):
        _check_decoder(decoder, fields["files"], width)
    _check_further_depths(fields, preprocessing, width)
    return fields


def _width_of(fields: Mapping) -> int:
    """D: of the visual embeddings."""
    return fields["vision"]["graphs"][0]["output"]["shape"][-1]


def _check_depth(fields: Mapping, preprocessing: ImagePreprocessing, width: int) -> None:
    """What is said of a depth agrees with itself, the files and the pictures."""
    vision = fields["vision"]
    _check_files(fields)
    _check_merges(fields["compression"])
    for place, graphs in _graphs_of(vision):
        _check_graphs(place, graphs, (3, preprocessing.height, preprocessing.width), vision["token_grid"], width)
    _check_twin(vision)
    _check_tiling(vision, preprocessing)


def _check_further_depths(fields: Mapping, preprocessing: ImagePreprocessing, width: int) -> None:
    """Each is sound as the first is, and another depth of the same model, in files of its own."""
    if "depths" not in fields:
        return
    _check_merging(fields)
    carried: list[Mapping] = [fields]
    for index, further in enumerate(fields["depths"]):
        depth = {**fields, "golden_answers": None, **further}
        try:
            _check_depth(depth, preprocessing, width)
            _check_merging(depth)
            for other in carried:
                _check_same_model(depth, other)
                _check_apart(depth, other)
        except FieldError as error:
            raise FieldError(f"depths[{index}].{error.place}", error.value, error.allowed) from None
        carried.append(depth)


def _check_merging(depth: Mapping) -> None:
    """A depth of several merges, and says where, and what it computes."""
    compression = depth["compression"]
    if "total" not in (flops := depth["vision"].get("flops", {})):
        raise FieldError("vision.flops", flops, "the total, as each of several depths has it")
    for name in ("method", "depth", "block"):
        if compression[name] is None:
            raise FieldError(f"compression.{name}", None, "where and how it merges, as each of several depths does")
    try:
        DepthPath.parse(compression["depth"])
    except DepthError as error:
        raise FieldError("compression.depth", compression["depth"], error.allowed) from None


def _check_same_model(depth: Mapping, other: Mapping) -> None:
    for part, names in (
        ("compression", ("method", "tokens_before")),
        ("vision", ("tiling", "token_layout", "image_newline")),
    ):
        for name in names:
            if (value := depth[part].get(name)) != (before := other[part].get(name)):
                raise FieldError(f"{part}.{name}", value, f"{before}, as depth {other['compression']['depth']} has it")


def _check_apart(depth: Mapping, other: Mapping) -> None:
    """Two depths of a bundle are two, and neither has a file that only one of them can have."""
    name, before = depth["compression"]["depth"], other["compression"]["depth"]
    if name == before or path_of(depth["compression"]) == path_of(other["compression"]):
        raise FieldError("compression.depth", name, f"another depth than {before}, which the bundle has already")
    taken = {file for _, file in _own_files(other)}
    for place, file in _own_files(depth):
        if file in taken:
            raise FieldError(place, file, f"a file of its own: this is depth {before}'s")


def _own_files(fields: Mapping) -> Iterator[tuple[str, str]]:
    """``(place, name)`` of each file that only one depth can have: its graphs and what PyTorch made of them."""
    for place, name in named_files(fields):
        if place.startswith("golden") or place.endswith("].file"):
            yield place, name


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


def named_files(fields: Mapping) -> Iterator[tuple[str, str]]:
    """``(place, name)`` of each file that a field names; of the manifest, or of one depth's part of it."""
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
    for place, name in named_files(fields):
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
    reduced = decoder.get("vocabulary") or {"rows": vocabulary, "of": vocabulary}
    if reduced["of"] != vocabulary or reduced["rows"] > vocabulary:
        allowed = f"at most {vocabulary} of {vocabulary}"
        raise FieldError("decoder.vocabulary.rows", f"{reduced['rows']} of {reduced['of']}", allowed)
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
