"""Runs the FP32 graph over the pictures and streams what it sees into histograms.

ONNX Runtime computes the graph with the watched tensors as extra outputs; nothing of a picture is kept. At AIMv2-L/336
on two cores that took less time a picture than torch's kernels node by node (docs/calibration.md has the figures).
Progress is written to disk every few pictures, so that an interrupted run can go on; since counts are whole numbers
that add up in any order, it ends with the very same statistics.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import onnx_graphsurgeon as gs

from laco_export.bundle import PIXEL_VALUES, Bundle
from laco_export.errors import ImageError
from laco_export.exporter.external_data import WeightFile, write_graph
from laco_export.onnx_session import open_session

from ..errors import CalibrationError
from ..graph.linear_layers import MAX_ATTENTION_TOKENS, find_blocks, residuals_of_merges
from ..source.picture_set import PictureFile, PictureSet, read_tiles, reason_of
from .records import MLP_BRANCH, RESIDUAL_BRANCH, Statistics, TensorStatistics

SAVE_EVERY = 16
"""Pictures between two writes: a few MB of JSON each, against seconds of encoding at full size."""


def empty_statistics(graph: gs.Graph, digest: str, *, attention: bool = False) -> Statistics:
    """What is to be watched in ``graph``: every Linear's input, and each merge's residual branch.

    Args:
        attention: also what attention's MatMuls read, where the sequence is short enough to quantise them.
    """
    tensors: dict[str, TensorStatistics] = {}
    for block in find_blocks(graph):
        for product in block.products if attention else ():
            if product.tokens <= MAX_ATTENTION_TOKENS:
                for source in product.sources:
                    tensors.setdefault(source, TensorStatistics(block.region, [])).readers.append(product.node)
        for linear in block.linears:
            region = f"{block.region}: {MLP_BRANCH}" if block.is_merge else block.region
            tensors.setdefault(linear.source, TensorStatistics(region, [])).readers.append(linear.node)
    for residual, region in residuals_of_merges(graph).items():
        tensors.setdefault(residual, TensorStatistics(f"{region}: {RESIDUAL_BRANCH}", []))
    return Statistics(digest, tensors)


@contextmanager
def watching(graph: gs.Graph, names: Sequence[str], ir_version: int) -> Iterator[Callable[[np.ndarray], dict]]:
    """``run(pixel_values [1, 3, H, W]) -> {name: array}`` of the graph's tensors ``names``, on ONNX Runtime."""
    outputs = list(graph.outputs)
    tensors = graph.tensors()
    graph.outputs = [tensors[name] for name in names]
    try:
        with tempfile.TemporaryDirectory(prefix="laco-calibrate-") as folder:
            with WeightFile(Path(folder) / "watched.data") as weights:
                write_graph(graph, Path(folder) / "watched.onnx", weights, ir_version=ir_version)
            # Between two runs torch counts: threads that spin until the next run would take its cores.
            session = open_session(Path(folder) / "watched.onnx", spin=False)
            yield lambda pixel_values: dict(zip(names, session.run(list(names), {PIXEL_VALUES: pixel_values})))
    finally:
        graph.outputs = outputs


def observe(
    graph: gs.Graph,
    bundle: Bundle,
    picture_set: PictureSet,
    wanted: Sequence[PictureFile],
    statistics: Statistics,
    *,
    keep: Path | None = None,
    advance: Callable[[], None] = lambda: None,
) -> None:
    """Add the ``wanted`` pictures that ``statistics`` has not seen yet to it.

    Args:
        graph: the FP32 graph, smoothed or not.
        keep: where to write the statistics as they grow; written a last time when the run is interrupted.
        advance: called after each picture.

    Raises:
        CalibrationError: a tensor of the model is not finite on a picture.
    """
    import torch

    seen = set(statistics.pictures)
    todo = [picture for picture in wanted if picture.sha256 not in seen]
    if not todo:
        return
    whole = True  # whether every picture that was begun is counted in every tensor
    try:
        with watching(graph, list(statistics.tensors), bundle.manifest.vision.ir_version) as run:
            for count, picture in enumerate(todo, 1):
                by_tile = _tensors_of(run, bundle, picture, picture_set, statistics)
                whole = False
                for tensors in by_tile:
                    for name, watched in statistics.tensors.items():
                        watched.histogram.add(torch.from_numpy(tensors[name]))
                if by_tile:
                    statistics.pictures.append(picture.sha256)
                whole = True
                if keep is not None and count % SAVE_EVERY == 0:
                    statistics.save(keep)
                advance()
    finally:
        if keep is not None and whole:  # else the last write stands
            statistics.save(keep)


def _tensors_of(
    run, bundle: Bundle, picture: PictureFile, picture_set: PictureSet, statistics: Statistics
) -> list[dict[str, np.ndarray]]:
    """The watched tensors of each tile; of a picture that cannot be read none, and its name is noted."""
    try:
        tiles: list[np.ndarray] = list(read_tiles(picture, bundle))
    except (ImageError, OSError) as error:
        picture_set.broken[str(picture.path)] = statistics.broken[str(picture.path)] = reason_of(error)
        return []
    by_tile = [run(tile) for tile in tiles]
    if not all(np.isfinite(values).all() for tensors in by_tile for values in tensors.values()):
        raise CalibrationError(
            f"the model computes inf or NaN on '{picture.path}'",
            todo="the checkpoint is damaged or was trained into divergence; look at its training",
        )
    return by_tile
