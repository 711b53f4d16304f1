import numpy as np
import pytest

from laco_export.exporter.rewrites import MergeGrid
from laco_export.exporter.rewrites.window_chain import is_channel_major

H, W, C, R = 4, 6, 5, 2


def chain(make_graph, perm, *, pad="edge"):
    """Pixel-unshuffle of a 3 × 5 grid padded to 4 × 6, written with transposes; ``perm`` is its 6-D transpose."""
    return make_graph(
        [
            ("Reshape", ["x", "grid"], ["g"], {}),
            ("Pad", ["g", "pads"], ["p"], {"mode": pad}),
            ("Transpose", ["p"], ["t"], {"perm": [0, 3, 1, 2]}),
            ("Reshape", ["t", "six"], ["s"], {}),
            ("Transpose", ["s"], ["u"], {"perm": perm}),
            ("Reshape", ["u", "flat"], ["y"], {}),
        ],
        {"x": (np.float32, [1, 15, C])},
        {"y": (np.float32, [1, H // R, W // R, C * R * R])},
        {
            "grid": np.array([1, 3, 5, C]),
            "pads": np.array([0, 0, 0, 0, 0, 1, 1, 0]),
            "six": np.array([1, C, H // R, R, W // R, R]),
            "flat": np.array([1, H // R, W // R, C * R * R]),
        },
    )


def test_another_spelling_of_the_same_rearrangement_is_recognised(make_graph):
    graph = chain(make_graph, [0, 2, 4, 1, 3, 5])
    assert is_channel_major(graph.outputs[0], MergeGrid(3, 5, R))


@pytest.mark.parametrize(
    ("perm", "pad", "merge"),
    [
        ([0, 2, 4, 3, 5, 1], "edge", MergeGrid(3, 5, R)),  # position by position
        ([0, 2, 4, 1, 5, 3], "edge", MergeGrid(3, 5, R)),  # windows transposed
        ([0, 2, 4, 1, 3, 5], "reflect", MergeGrid(3, 5, R)),  # padded with other tokens
        ([0, 2, 4, 1, 3, 5], "constant", MergeGrid(3, 5, R)),  # padded with zeros
        ([0, 2, 4, 1, 3, 5], "edge", MergeGrid(5, 3, R)),  # another grid of as many tokens
        ([0, 2, 4, 1, 3, 5], "edge", MergeGrid(4, 4, R)),  # another number of tokens
    ],
)
def test_what_only_looks_like_it_is_not(make_graph, perm, pad, merge):
    assert not is_channel_major(chain(make_graph, perm, pad=pad).outputs[0], merge)
