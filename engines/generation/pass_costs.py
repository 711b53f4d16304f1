"""What a decoder's pass over several positions takes and gives, beside single steps: measured where it runs.

A pass over a few positions reads the weights once, so it takes less than as many steps; by how much depends on the
precision, the processor and the threads. And it adds its products up in another order than a step does, so that its
logits differ from a step's in their last bits, or by more: where activations are rounded to 8 bits inside a product
(int8 and int4), a last bit decides which way one is rounded, and layer after layer enlarges it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from laco_export.timing import interleave

from .lean_decoder import LeanDecoder

WIDTHS = (2, 4, 8, 16)
"""Positions of a pass. ONNX Runtime's 4-bit product takes rows in pairs: an odd width costs as the even one above."""

_CONTEXT = 64  # positions before the passes that are measured
_COMPARED = 8  # positions whose logits are compared
_REPEATS = 2


@dataclass(frozen=True)
class PassCosts:
    """A decoder's passes over several positions.

    Attributes:
        over_step: by positions, the time of a pass over that of a step; 1 for 1.
        rounding: the largest difference between a logit of a pass and the same one of single steps.
    """

    over_step: dict[int, float]
    rounding: float


def measure_pass_costs(decoder: LeanDecoder) -> PassCosts:
    """Time passes and steps in turn, behind a context of random tokens, and compare their logits.

    That takes 37 steps' time where a pass over 16 positions takes four of them.
    """
    ids = np.random.default_rng(0).integers(0, decoder.vocab_size, _CONTEXT + max(WIDTHS))
    context, behind = ids[:_CONTEXT], ids[_CONTEXT:].tolist()
    cache = decoder.new_cache(len(ids))
    decoder.prefill([decoder.embed(context)], cache)
    stepped = np.stack([decoder.step([token], cache, [True])[0].copy() for token in behind[:_COMPARED]])  # [C, V]

    def read(width: int) -> np.ndarray:
        cache.crop(_CONTEXT)
        return decoder.step([behind[0]], cache, [True]) if width == 1 else decoder.read(behind[:width], cache)

    rounding = max(float(np.abs(read(width)[:_COMPARED] - stepped[:width]).max()) for width in WIDTHS)
    on_cpu = decoder.device == "cpu"
    series = interleave(
        {str(width): (partial(read, width), on_cpu) for width in (1, *WIDTHS)}, repeats=_REPEATS, warmup=0
    )
    milliseconds = {width: series[str(width)].quantile(0.5) for width in (1, *WIDTHS)}
    return PassCosts({width: taken / milliseconds[1] for width, taken in milliseconds.items()}, rounding)
