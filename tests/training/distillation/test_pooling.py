"""A teacher's pooled tokens are what the merge's own average makes of them, odd grids too."""

import numpy as np
import pytest
import torch

from laco_export.models.compressors import build_compressor
from laco_training.distillation.pooling import average_boundary, average_windows


def windows(tokens, height, width, ratio):
    """The means of windows that repeat the last row and column, one by one."""
    grid = tokens.reshape(height, width, -1)
    rows, columns = -(-height // ratio), -(-width // ratio)
    means = [
        np.mean(
            [
                grid[min(i * ratio + a, height - 1), min(j * ratio + b, width - 1)]
                for a in range(ratio)
                for b in range(ratio)
            ],
            axis=0,
        )
        for i in range(rows)
        for j in range(columns)
    ]
    return np.stack(means)


@pytest.mark.parametrize(("grid", "ratio"), [((27, 27), 2), ((4, 6), 2), ((5, 7), 3), ((9, 6), 4)])
def test_windows_are_averaged_with_the_last_row_and_column_repeated(grid, ratio):
    tokens = torch.randn(2, grid[0] * grid[1], 3, generator=torch.Generator().manual_seed(0))
    pooled = average_windows(tokens, grid, [ratio])
    expected = np.stack([windows(picture.numpy(), *grid, ratio) for picture in tokens])
    assert pooled.shape == (2, -(-grid[0] // ratio) * -(-grid[1] // ratio), 3)
    np.testing.assert_allclose(pooled, expected, rtol=1e-5, atol=1e-6)


def test_merges_in_turn_pad_in_turn():
    """26 columns: 13, then 7 of which the last is one column twice; windows of four at once would weigh otherwise."""
    tokens = torch.randn(1, 26 * 26, 2, generator=torch.Generator().manual_seed(0))
    twice = average_windows(tokens, (26, 26), [2, 2])
    once = windows(tokens[0].numpy(), 26, 26, 2)
    np.testing.assert_allclose(twice[0], windows(once, 13, 13, 2), rtol=1e-5, atol=1e-6)
    assert not torch.allclose(twice, average_windows(tokens, (26, 26), [4]))


def test_it_is_what_a_merge_gives_that_starts_as_an_average():
    merge = build_compressor("average_pool", 3, ratio=2, mlp_hidden_size=None)
    tokens = torch.randn(1, 24, 3)
    torch.testing.assert_close(average_windows(tokens, (4, 6), [2]), merge(tokens.reshape(1, 4, 6, 3)).flatten(1, 2))


def test_tokens_before_the_patches_stay():
    hidden_states = torch.randn(2, 1 + 16, 3)
    pooled = average_boundary(hidden_states, 1, (4, 4), [2])
    assert torch.equal(pooled[:, :1], hidden_states[:, :1])
    assert torch.equal(pooled[:, 1:], average_windows(hidden_states[:, 1:], (4, 4), [2]))
    assert torch.equal(average_windows(hidden_states, (1, 17), []), hidden_states)
