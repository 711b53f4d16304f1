"""Blocks alone are judged on the judging pictures, sets of them on the golden ones too."""

import numpy as np

from laco_calibration.blocks.block_errors import BlockJudge
from laco_calibration.blocks.fake_quant import Swap
from laco_calibration.graph.linear_layers import find_blocks
from laco_calibration.graph.partial_runner import SegmentRunner
from laco_export.number_formats import U8S8


def test_sets_of_blocks_are_judged_on_more_pictures_than_single_ones(graph, pixels):
    blocks = find_blocks(graph)
    linears = [linear for block in blocks for linear in block.linears]
    ranges = dict.fromkeys((linear.source for linear in linears), (-4.0, 4.0))
    swap = Swap(U8S8, ranges, {linear.node: linear.block for linear in linears}, half_scales=False)
    runner, names = SegmentRunner(graph), [block.name for block in blocks]
    in_order = sorted(pixels, key=lambda picture: BlockJudge(runner, swap, [picture]).together(names).points)
    best, worst = in_order[:1], in_order[-1:]
    alone, both = BlockJudge(runner, swap, best), BlockJudge(runner, swap, best, also=worst)
    assert both.each(names) == alone.each(names)
    assert both.together(names) == BlockJudge(runner, swap, [*best, *worst]).together(names)
    assert alone.together(names).points < both.together(names).points < np.inf
