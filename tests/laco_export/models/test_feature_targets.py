"""Targets by their definition in NumPy, and the distances from them."""

import numpy as np
import pytest
import torch

from laco_export.errors import ConfigError
from laco_export.models.feature_targets import (
    pool_features,
    pooling_ratios,
    tile_errors,
    token_cosines,
    token_errors,
)


def window_means(grid, ratio):
    """``[H, W, D]`` to the means of r×r windows; a window over the edge sees the last row and column again."""
    height, width = grid.shape[:2]
    rows, columns = -(-height // ratio), -(-width // ratio)
    means = np.empty((rows, columns, grid.shape[2]))
    for row in range(rows):
        for column in range(columns):
            places = [
                (min(row * ratio + i, height - 1), min(column * ratio + j, width - 1))
                for i in range(ratio)
                for j in range(ratio)
            ]
            means[row, column] = np.mean([grid[place] for place in places], axis=0)
    return means


@pytest.mark.parametrize(("grid", "ratios"), [((4, 6), (2,)), ((5, 3), (2,)), ((7, 7), (3,)), ((9, 5), (2, 2))])
def test_targets_are_the_means_of_windows(grid, ratios):
    features = torch.randn(2, grid[0] * grid[1], 3, generator=torch.Generator().manual_seed(0))
    pooled = pool_features(features, grid, ratios)
    for tile, actual in zip(features, pooled, strict=True):
        expected = tile.unflatten(0, grid).numpy()
        for ratio in ratios:
            expected = window_means(expected, ratio)
        np.testing.assert_allclose(actual, expected.reshape(-1, 3), atol=1e-6)


def test_without_ratios_features_are_their_own_targets():
    features = torch.randn(2, 6, 3)
    assert torch.equal(pool_features(features, (2, 3), ()), features)


def test_they_are_what_an_averaging_merge_gives(make_tiny_model):
    """On an odd grid too, where both repeat the last row and column."""
    model = make_tiny_model("internvit", grid=(5, 5), method="average_pool", at="1")
    with torch.no_grad():
        pixels = torch.randn(2, 3, 70, 70)
        hidden_states = model.vision_model.before_merge(pixels)
        merged = model.vision_model.from_merge(hidden_states)
    pooled = pool_features(hidden_states[:, model.vision_model.spec.prefix_tokens :], (5, 5), (2,))
    torch.testing.assert_close(merged, pooled)


@pytest.mark.parametrize(
    ("reference", "merged", "ratios", "expected"),
    [
        ((4, 4), (2, 2), (2,), (2,)),
        ((2, 2), (2, 2), (2,), ()),
        ((27, 27), (14, 14), (2,), (2,)),
        ((16, 16), (8, 8), (2, 2), (2,)),
        ((12, 12), (2, 2), (2, 3), (2, 3)),
        ((16, 16), (8, 8), (4,), (2,)),
    ],
)
def test_which_merges_lie_between_two_grids(reference, merged, ratios, expected):
    assert pooling_ratios(reference, merged, ratios) == expected


@pytest.mark.parametrize(("reference", "merged", "ratios"), [((4, 4), (3, 3), (2,)), ((2, 2), (4, 4), (2,))])
def test_grids_that_do_not_belong_together(reference, merged, ratios):
    with pytest.raises(ConfigError, match="do not belong together"):
        pooling_ratios(reference, merged, ratios)


def test_distances_by_their_definition():
    generator = torch.Generator().manual_seed(0)
    features, targets = torch.randn(2, 3, 5, 4, generator=generator)
    errors, tokens, cosines = (f(features, targets) for f in (tile_errors, token_errors, token_cosines))
    for tile in range(3):
        ours, theirs = features[tile].double().numpy(), targets[tile].double().numpy()
        assert errors[tile].item() == pytest.approx(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs), rel=1e-5)
        expected = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(ours, theirs)]
        np.testing.assert_allclose(cosines[tile], expected, atol=1e-5)
        norms = np.linalg.norm(ours - theirs, axis=-1) / np.sqrt(np.mean(np.sum(theirs**2, -1)))
        np.testing.assert_allclose(tokens[tile], norms, rtol=1e-5)
        assert np.sqrt(np.mean(norms**2)) == pytest.approx(errors[tile].item(), rel=1e-5)
