"""How many times longer than its floor a run takes on a device: what public figures of like models span.

``benchmarks/plan_public_figures.py`` computes them from the figures and from the models' sizes; its raw results are in
``benchmarks/results/plan_public_figures.json``. A prediction lies between the two ends; its value is the geometric
mean of the ratios.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FloorSpan:
    """Ratios of published time over floor.

    Attributes:
        low, high: the smallest and the largest.
        middle: the geometric mean.
        figures: how many there are.
    """

    low: float
    middle: float
    high: float
    figures: int


VISION_SPAN = FloorSpan(2.05, 3.21, 4.51, 9)
"""Vision transformers in FP32, FP16 and INT8 on Orin Nano, AGX Orin and Thor."""
SMALLEST_FIGURE = 35e9
"""Operations of the smallest of them, ViT-B/16 on one picture."""
PREFILL_SPAN = FloorSpan(2.84, 6.87, 11.4, 5)
"""Language models of four bits: about 4 on the Orins, 10 to 11 on Thor."""
DECODE_SPAN = FloorSpan(1.16, 1.70, 2.60, 6)
"""The same, a token."""
