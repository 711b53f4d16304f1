"""The smoothing strength of each block, by trying: the one whose block computes nearest to FP32 in eight bits."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_graphsurgeon as gs
import torch

from laco_export.exporter.kernels import KERNELS
from laco_export.number_formats import NumberFormat, Scaling, quantize_weight, scaling

from ..graph.linear_layers import Block, is_linear
from ..graph.partial_runner import SegmentRunner, rounded
from ..statistics.histogram import Histogram
from ..statistics.thresholds import clip_range
from .fold import STRENGTHS, Fold, smoothing_scales

SEARCH_PICTURES = 4
"""The search looks at a few pictures: which channels are outliers is the model's doing more than the picture's."""

_WORTH = 0.98
"""A strength above 0 must lower the squared error at least to this share, or the block is left as it is."""


def search_strengths(
    graph: gs.Graph,
    blocks: Sequence[Block],
    folds: Sequence[Fold],
    pictures: Sequence[np.ndarray],
    number_format: NumberFormat,
    methods: Sequence[str],
    *,
    half_scales: bool,
    advance: Callable[[], None] = lambda: None,
) -> tuple[dict[str, float], dict[str, np.ndarray]]:
    """Try :data:`~.fold.STRENGTHS` on every block that has something to fold.

    Args:
        pictures: ``pixel_values [1, 3, H, W]`` each.
        methods: how ranges may be chosen, names of :data:`~laco_calibration.statistics.thresholds.METHODS`: a strength
            is worth what the best of them makes of it.

    Returns:
        block → strength, and Linear input → scales ``[C]`` of the blocks whose strength is above 0.
    """
    runner = SegmentRunner(graph)
    with_folds = {fold.block for fold in folds}
    searched = [block for block in blocks if block.name in with_folds]
    cuts = [runner.run_with_cuts(picture, [block.name for block in searched])[1] for picture in pictures]
    weights = {node.name: node.inputs[1].values for node in runner.nodes if is_linear(node)}
    rounding = _Rounding(number_format, tuple(methods), half_scales)
    strengths, scales = {}, {}
    for block in searched:
        trial = _Trial(runner, _run_plain(runner, block, [cut[block.name] for cut in cuts]), weights, rounding)
        own = [fold for fold in folds if fold.block == block.name]
        strengths[block.name], chosen = _best_strength(trial, own, weights)
        scales |= chosen
        for cut in cuts:
            del cut[block.name]
        advance()
    return strengths, scales


def _best_strength(
    trial: _Trial, folds: Sequence[Fold], weights: Mapping[str, np.ndarray]
) -> tuple[float, dict[str, np.ndarray]]:
    """The strength with the least error of the block, and its scales; 0 and none where none is worth it."""
    best, least, chosen = 0.0, trial.error({}), {}
    for strength in STRENGTHS[1:]:
        tried = {
            fold.source: smoothing_scales(
                trial.histogram_of(fold.source, None).channel_max, [weights[name] for name in fold.readers], strength
            )
            for fold in folds
        }
        error = trial.error(tried)
        if error < least * (_WORTH if best == 0.0 else 1.0):
            best, least, chosen = strength, error, tried
    return best, chosen


@dataclass(frozen=True)
class _Rounding:
    """How the block would be rounded: number format, methods of the ranges, scales in half precision."""

    number_format: NumberFormat
    methods: tuple[str, ...]
    half_scales: bool


@dataclass(frozen=True)
class _PlainBlock:
    """A block in FP32 on a few pictures.

    Attributes:
        cuts: of each picture, the tensors that are alive where the block begins.
        inputs: Linear input → its values, a tensor a picture.
        outputs: the block's output, a tensor a picture.
    """

    block: Block
    cuts: list[dict[str, torch.Tensor]]
    inputs: dict[str, list[torch.Tensor]]
    outputs: list[torch.Tensor]


def _run_plain(runner: SegmentRunner, block: Block, cuts: list[dict[str, torch.Tensor]]) -> _PlainBlock:
    linears = {linear.node for linear in block.linears}
    inputs: dict[str, list[torch.Tensor]] = {linear.source: [] for linear in block.linears}
    outputs = []
    for cut in cuts:
        seen: set[str] = set()

        def keep(node, x, weight, seen=seen):
            name = node.inputs[0].name
            if node.name in linears and name not in seen:
                seen.add(name)
                inputs[name].append(x)

        outputs.append(runner.run_block(block.name, cut, keep))
    return _PlainBlock(block, cuts, inputs, outputs)


class _Trial:
    """One block on a few pictures, in eight bits, under candidate scales."""

    def __init__(
        self, runner: SegmentRunner, plain: _PlainBlock, weights: Mapping[str, np.ndarray], rounding: _Rounding
    ):
        self.runner, self.plain, self.weights, self.rounding = runner, plain, weights, rounding
        self.linears = {linear.node: linear for linear in plain.block.linears}

    def histogram_of(self, source: str, scale: np.ndarray | None) -> Histogram:
        histogram = Histogram()
        for x in self.plain.inputs[source]:
            histogram.add(x if scale is None else x / torch.from_numpy(scale))
        return histogram

    def error(self, scales: Mapping[str, np.ndarray]) -> float:
        """Squared error of the block's output, all pictures together, by the method with the least.

        Here a scaled input is divided where it is read. In the graph a fold divides columns of another Linear (or a
        norm): with one weight scale a column that changes no rounding.
        """
        matrices = self._rounded_weights(scales)
        histograms = {source: self.histogram_of(source, scales.get(source)) for source in self.plain.inputs}
        return min(
            self._error_by(self._scalings(histograms, method), matrices, scales) for method in self.rounding.methods
        )

    def _error_by(
        self,
        scalings: Mapping[str, Scaling],
        matrices: Mapping[str, torch.Tensor],
        scales: Mapping[str, np.ndarray],
    ) -> float:
        """The same by one method's ``scalings``."""

        def swapped(node, x, weight):
            if node.name not in self.linears:
                return None
            source = self.linears[node.name].source
            if source in scales:
                x = x / torch.from_numpy(scales[source])
            return KERNELS["MatMul"](
                {}, [rounded(x, scalings[source]) if source in scalings else x, matrices[node.name]]
            )

        name, plain = self.plain.block.name, self.plain
        errors = [
            float((self.runner.run_block(name, cut, swapped) - expected).square().sum())
            for cut, expected in zip(plain.cuts, plain.outputs)
        ]
        return sum(errors) if np.isfinite(errors).all() else np.inf

    def _scalings(self, histograms: Mapping[str, Histogram], method: str) -> dict[str, Scaling]:
        """Linear input → how it is rounded; nothing for weights alone."""
        kind, half_scales = self.rounding.number_format.activations, self.rounding.half_scales
        if kind is None:
            return {}
        return {
            source: scaling(kind, *clip_range(histogram, method), half_scales=half_scales)
            for source, histogram in histograms.items()
        }

    def _rounded_weights(self, scales: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
        """Linear → its matrix multiplied by ``scales`` and rounded, float32 ``[in, out]``."""
        kind, half_scales = self.rounding.number_format.weights, self.rounding.half_scales
        matrices = {}
        for name, linear in self.linears.items():
            weight = self.weights[name]
            if linear.source in scales:
                weight = weight * scales[linear.source][:, None]
            matrices[name] = torch.from_numpy(quantize_weight(kind, weight, half_scales=half_scales).dequantized())
        return matrices
