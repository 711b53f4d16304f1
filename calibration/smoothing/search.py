"""The smoothing strength of each block, by trying: the one whose block computes nearest to FP32 in eight bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_graphsurgeon as gs
import torch

from laco_export.exporter.kernels import KERNELS
from laco_export.number_formats import NumberFormat, quantize_weight, scaling

from ..graph.linear_layers import Block, is_linear
from ..graph.partial_runner import SegmentRunner, rounded
from ..statistics.histogram import Histogram
from ..statistics.thresholds import clip_range
from .fold import STRENGTHS, Fold, smoothing_scales

PICTURES = 4
"""The search looks at a few pictures: which channels are outliers is the model's doing more than the picture's."""

WORTH = 0.98
"""A strength above 0 must lower the squared error at least to this share, or the block is left as it is."""


def search_strengths(
    graph: gs.Graph,
    blocks: Sequence[Block],
    folds: Sequence[Fold],
    pictures: Sequence[np.ndarray],
    number_format: NumberFormat,
    method: str,
    *,
    half_scales: bool,
    advance: Callable[[], None] = lambda: None,
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Try :data:`~.fold.STRENGTHS` on every block that has something to fold.

    Args:
        pictures: ``pixel_values [1, 3, H, W]`` each.
        method: how ranges are chosen, a name of :data:`~laco_calibration.statistics.thresholds.METHODS`.

    Returns:
        block → strength, and Linear input → scales ``[C]`` of the blocks whose strength is above 0.
    """
    runner = SegmentRunner(graph)
    with_folds = {fold.block for fold in folds}
    searched = [block for block in blocks if block.name in with_folds]
    cuts = [runner.run_with_cuts(picture, [block.name for block in searched])[1] for picture in pictures]
    weights = {node.name: node.inputs[1].values for node in runner.nodes if is_linear(node)}
    strengths, scales = {}, {}
    for block in searched:
        trial = _Trial(runner, block, [cut[block.name] for cut in cuts], weights, number_format, method, half_scales)
        own = [fold for fold in folds if fold.block == block.name]
        best, least, chosen = 0.0, trial.error({}), {}
        for strength in STRENGTHS[1:]:
            tried = {
                fold.source: smoothing_scales(
                    trial.histogram_of(fold.source, None).channel_max,
                    [weights[name] for name in fold.readers],
                    strength,
                )
                for fold in own
            }
            error = trial.error(tried)
            if error < least * (WORTH if best == 0.0 else 1.0):
                best, least, chosen = strength, error, tried
        strengths[block.name] = best
        scales |= chosen
        for cut in cuts:
            del cut[block.name]
        advance()
    return strengths, scales


class _Trial:
    """One block on a few pictures, in eight bits, under candidate scales."""

    def __init__(
        self, runner, block: Block, cuts, weights, number_format: NumberFormat, method: str, half_scales: bool
    ):
        self.runner, self.block, self.cuts, self.weights = runner, block, cuts, weights
        self.number_format, self.method, self.half_scales = number_format, method, half_scales
        self.linears = {linear.node: linear for linear in block.linears}
        self.inputs: dict[str, list] = {linear.source: [] for linear in block.linears}
        self.expected = []
        for cut in cuts:
            seen: set[str] = set()

            def keep(node, x, weight, seen=seen):
                name = node.inputs[0].name
                if node.name in self.linears and name not in seen:
                    seen.add(name)
                    self.inputs[name].append(x)

            self.expected.append(runner.run_block(block.name, cut, keep))

    def histogram_of(self, source: str, scale: np.ndarray | None) -> Histogram:
        histogram = Histogram()
        for x in self.inputs[source]:
            histogram.add(x if scale is None else x / torch.from_numpy(scale))
        return histogram

    def error(self, scales: Mapping[str, np.ndarray]) -> float:
        """Squared error of the block's output, all pictures together.

        Here a scaled input is divided where it is read. In the graph a fold divides columns of another Linear (or a
        norm): with one weight scale a column that changes no rounding.
        """
        kind = self.number_format.activations
        hows = {}
        if kind is not None:
            for source in self.inputs:
                bounds = clip_range(self.histogram_of(source, scales.get(source)), self.method)
                hows[source] = scaling(kind, *bounds, half_scales=self.half_scales)
        matrices = {}
        for name, linear in self.linears.items():
            weight = self.weights[name]
            if linear.source in scales:
                weight = weight * scales[linear.source][:, None]
            matrices[name] = torch.from_numpy(
                quantize_weight(self.number_format.weights, weight, half_scales=self.half_scales).dequantized()
            )

        def swapped(node, x, weight):
            if node.name not in self.linears:
                return None
            source = self.linears[node.name].source
            if source in scales:
                x = x / torch.from_numpy(scales[source])
            return KERNELS["MatMul"]({}, [rounded(x, hows[source]) if source in hows else x, matrices[node.name]])

        errors = [
            float((self.runner.run_block(self.block.name, cut, swapped) - expected).square().sum())
            for cut, expected in zip(self.cuts, self.expected)
        ]
        return sum(errors) if np.isfinite(errors).all() else np.inf
