"""Rounding over text: outputs keep what the nearest numbers lose, by order, by grid and by scale; blocks stay whole."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from laco_export.exporter.decoder import DECODER_PRECISIONS, compensation, rounding
from laco_export.exporter.decoder.compensation import InputMoments, column_groups, compensated, round_columns

INT4 = replace(DECODER_PRECISIONS["int4"], block_size=32)


def lost_outputs(weight, matrix, hidden) -> float:
    """Relative error of a layer's outputs."""
    expected = hidden @ weight.T
    return float((hidden @ torch.from_numpy(matrix.dequantized()).T - expected).norm() / expected.norm())


def inputs_that_go_together(columns: int, tokens: int = 512) -> torch.Tensor:
    torch.manual_seed(0)
    return torch.randn(tokens, 24) @ torch.randn(24, columns) + 0.3 * torch.randn(tokens, columns)


def test_outputs_keep_what_the_nearest_numbers_lose():
    hidden = inputs_that_go_together(96)
    weight = torch.randn(48, 96)
    over_text = compensated(weight, [InputMoments.of(hidden, 32)], INT4)
    nearest = rounding._nearest(weight, INT4, False)
    assert lost_outputs(weight, over_text, hidden) < 0.5 * lost_outputs(weight, nearest, hidden)
    assert (
        np.abs(over_text.dequantized() - weight.numpy()).mean() > np.abs(nearest.dequantized() - weight.numpy()).mean()
    )


def test_inputs_that_do_not_go_together_leave_the_nearest_numbers():
    """With moments of an identity there is nothing to make good, in whatever order columns are rounded."""
    torch.manual_seed(0)
    weight = torch.randn(10, 72)  # the last block of 32 filled by a quarter
    over_text = compensated(weight, [InputMoments.of_second(torch.eye(72), 32)], INT4)
    nearest = rounding._nearest(weight, INT4, False)
    error, least = (np.linalg.norm(matrix.dequantized() - weight.numpy()) for matrix in (over_text, nearest))
    assert 0.97 * least < error <= least * (1 + 1e-5)  # the scale is fitted once more than the nearest one's


def test_large_inputs_are_rounded_first():
    second = torch.eye(96)
    second.diagonal()[[5, 40, 70, 71]] = torch.tensor([3.0, 9.0, 50.0, 60.0])
    moments = InputMoments.of_second(second, 32)
    assert moments.numbers == (2, 1, 0)
    assert [int(block[0]) for block in moments.blocks] == [71, 40, 5] and int(moments.blocks[0][1]) == 70
    for number, block in zip(moments.numbers, moments.blocks):
        assert sorted(block) == list(range(32 * number, 32 * number + 32))  # a block keeps its columns
    order = np.concatenate(moments.blocks)
    inverse = (moments.factor.T @ moments.factor).numpy()
    assert np.allclose(
        inverse @ np.diag(second.diagonal()[order] + 0.01 * second.diagonal().mean()), np.eye(96), atol=1e-5
    )


def test_the_order_of_large_inputs_loses_less(monkeypatch):
    """A few large inputs that go with many small ones, as real models have them: rounded last, nothing mends them."""
    hidden = inputs_that_go_together(128)
    hidden[:, 120:] *= 12
    weight = torch.randn(64, 128)
    by_size = lost_outputs(weight, compensated(weight, [InputMoments.of(hidden, 32)], INT4), hidden)
    monkeypatch.setattr(compensation.np, "argsort", lambda values, **_: np.arange(len(values)))
    monkeypatch.setattr(compensation, "sorted", lambda numbers, key: list(numbers), raising=False)
    moments = InputMoments.of(hidden, 32)
    assert moments.numbers == (0, 1, 2, 3)
    assert by_size < 0.9 * lost_outputs(weight, compensated(weight, [moments], INT4), hidden)


def test_a_columns_error_is_mended_by_the_columns_after_it():
    """Against the definition: the errors over the factor are what is left of the weights."""
    hidden = inputs_that_go_together(40)
    moments = InputMoments.of(hidden, 64)
    order = moments.blocks[0]
    factor = moments.factor.numpy()
    block = torch.randn(40, 7).numpy()[order]
    scales, zeros = np.full(7, 0.4, np.float32), np.full(7, 8, np.float32)
    numbers, errors = round_columns(block, factor, scales, zeros, 4)
    assert np.allclose(factor.T @ errors, block - numbers * scales, atol=1e-4)
    left = block.copy()
    for column in range(40):
        expected = np.clip(np.rint(left[column] / scales), -8, 7)
        assert np.array_equal(numbers[column], expected)
        error = (left[column] - expected * scales) / factor[column, column]
        left[column + 1 :] -= factor[column, column + 1 :, None] * error
    assert np.allclose(moments.unmixing[0] @ (block - numbers * scales), errors, atol=1e-4)


@pytest.mark.parametrize("choice", ["_FITS", "RANGES"])
def test_grids_and_scales_are_chosen_by_what_is_left_of_the_outputs(choice, monkeypatch):
    hidden = inputs_that_go_together(96)
    weight = torch.randn(200, 96)
    moments = [InputMoments.of(hidden, 32)]
    chosen = lost_outputs(weight, compensated(weight, moments, INT4), hidden)
    if choice == "_FITS":
        monkeypatch.setattr(compensation, "_FITS", 0)
    else:
        monkeypatch.setattr("laco_export.exporter.n_bits.RANGES", (1.0,))
    assert chosen < 0.99 * lost_outputs(weight, compensated(weight, moments, INT4), hidden)


@pytest.mark.parametrize(("columns", "expected"), [(896, [896]), (4864, [1536, 1664, 1664]), (2080, [1024, 1056])])
def test_columns_are_grouped_by_whole_blocks(columns, expected):
    groups = column_groups(columns, replace(INT4, block_size=128 if columns != 2080 else 32))
    assert [group.stop - group.start for group in groups] == expected
    assert groups[0].start == 0 and groups[-1].stop == columns


def test_groups_are_joined_in_order(monkeypatch):
    """With nothing to make good, a matrix in groups is the same matrix."""
    torch.manual_seed(0)
    weight = torch.randn(9, 160)
    whole = compensated(weight, [InputMoments.of_second(torch.eye(160), 32)], INT4)
    monkeypatch.setattr(compensation, "_GROUP_COLUMNS", 64)
    parts = [InputMoments.of_second(torch.eye(size), 32) for size in (32, 64, 64)]
    in_groups = compensated(weight, parts, INT4)
    assert np.array_equal(whole.dequantized(), in_groups.dequantized())
