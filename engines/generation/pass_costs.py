"""What a decoder's pass over several positions takes and gives, beside single steps: measured where it runs.

A pass over a few positions reads the weights once, so it takes less than as many steps; by how much depends on the
precision, the processor and the threads. And it adds its products up in another order than a step does, so that its
logits differ from a step's in their last bits, or by more: where activations are rounded to 8 bits inside a product
(int8 and int4), a last bit decides which way one is rounded, and layer after layer enlarges it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import log2

import numpy as np

from laco_export.timing import Series, interleave

from .lean_decoder import LeanDecoder

WIDTHS = (2, 4, 8, 16)
"""Positions of a pass. ONNX Runtime's 4-bit product takes rows in pairs: an odd width costs as the even one above."""

_CONTEXT = 64  # positions before the passes that are measured
_COMPARED = 8  # positions whose logits are compared
_REPEATS = 3

_LEAST_EXTRA = 0.1
"""Of a step's time, for each doubling of the positions: about the least that was measured, in FP32 (1.06 to 1.17 for
two, 1.47 to 1.82 for 16). On a busy machine a pass may seem to cost nothing, and drafts that cost nothing would be made
however wrong they are: a text that contradicted them all came at 0.79 of its speed."""


@dataclass(frozen=True)
class PassCosts:
    """A decoder's passes over several positions.

    Attributes:
        over_step: by positions, the time of a pass over that of a step; 1 for 1, and more for more.
        rounding: the largest difference between a logit of a pass and the same one of single steps.
    """

    over_step: dict[int, float]
    rounding: float


def measure_pass_costs(decoder: LeanDecoder) -> PassCosts:
    """Time passes and steps in turn, behind a context of random tokens, and compare their logits.

    That takes 46 steps' time where a pass over 16 positions takes four of them. On a CPU it is CPU time that counts:
    where other programs run, the wall time of one pass says little, and these last milliseconds.
    """
    ids = np.random.default_rng(0).integers(0, decoder.vocab_size, _CONTEXT + max(WIDTHS))
    context, behind = ids[:_CONTEXT], ids[_CONTEXT:].tolist()
    cache = decoder.new_cache(len(ids))
    decoder.prefill([decoder.embed(context)], cache)
    stepped = np.stack([decoder.step([token], cache, [True])[0].copy() for token in behind[:_COMPARED]])  # [C, V]

    def read(width: int) -> np.ndarray:
        cache.crop(_CONTEXT)
        return decoder.step([behind[0]], cache, [True]) if width == 1 else decoder.read(behind[:width], cache)

    said = ~np.isneginf(stepped[0])  # a reduced vocabulary has no logits of the others
    rounding = max(float(np.abs(read(width)[:_COMPARED, said] - stepped[:width, said]).max()) for width in WIDTHS)
    on_cpu = decoder.device == "cpu"
    series = interleave(
        {str(width): (partial(read, width), on_cpu) for width in (1, *WIDTHS)}, repeats=_REPEATS, warmup=0
    )
    step_ms = _milliseconds(series["1"])
    costs = {1: 1.0}
    for width in WIDTHS:
        measured = _milliseconds(series[str(width)]) / step_ms
        costs[width] = max(measured, 1 + _LEAST_EXTRA * log2(width), *costs.values())
    return PassCosts(costs, rounding)


def _milliseconds(series: Series) -> float:
    """The least, of CPU time where it computes there: what else runs can only add to it."""
    return min(run.ms * (run.cpu_ratio if series.on_cpu else 1) for run in series.samples)
