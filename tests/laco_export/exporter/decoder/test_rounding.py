"""Rounding over text: outputs keep what the nearest numbers lose, grids are whole, eight bits stay eight."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from laco_export.errors import ExportError
from laco_export.exporter.decoder import DECODER_PRECISIONS, rounding
from laco_export.exporter.decoder.rounding import InputMoments, bits_a_weight, column_groups, round_layers
from laco_export.exporter.n_bits import grid_of_blocks, pack_numbers

INT4 = replace(DECODER_PRECISIONS["int4"], block_size=32)


def lost_outputs(weight, matrix, hidden) -> float:
    """Relative error of a layer's outputs."""
    expected = hidden @ weight.T
    return float((hidden @ torch.from_numpy(matrix.dequantized()).T - expected).norm() / expected.norm())


def test_outputs_keep_what_the_nearest_numbers_lose():
    torch.manual_seed(0)
    weight = torch.randn(48, 96)
    hidden = torch.randn(512, 24) @ torch.randn(24, 96) + 0.3 * torch.randn(512, 96)  # inputs that go together
    over_text = rounding.compensated(weight, [InputMoments.of(hidden)], INT4)
    nearest = rounding._nearest(weight, INT4, False)
    assert lost_outputs(weight, over_text, hidden) < 0.6 * lost_outputs(weight, nearest, hidden)
    assert (
        np.abs(over_text.dequantized() - weight.numpy()).mean() > np.abs(nearest.dequantized() - weight.numpy()).mean()
    )


def test_inputs_that_do_not_go_together_leave_the_nearest_numbers():
    """With moments of an identity there is nothing to make good, in whatever order columns are rounded."""
    torch.manual_seed(0)
    weight = torch.randn(10, 80)  # the last block half filled
    over_text = rounding.compensated(weight, [InputMoments(torch.eye(80), torch.ones(80))], INT4)
    nearest = rounding._nearest(weight, INT4, False)
    assert np.array_equal(over_text.blocks, nearest.blocks)
    assert np.allclose(over_text.dequantized(), nearest.dequantized(), rtol=1e-5)  # sums in another order


def test_a_model_is_rounded_in_one_pass_and_left_as_it_was(make_language_model, text_prompts):
    model = make_language_model()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    chosen = frozenset({"model.layers.0.self_attn.v_proj"})
    rounded = round_layers(model, DECODER_PRECISIONS["int4"], text_prompts.rounding, chosen)
    assert {name for name, matrix in rounded.items() if matrix.bits == 8} == chosen
    assert len(rounded) == 2 * 7
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())
    assert not any("forward" in vars(module) for module in model.modules())
    # Blocks of 64: 4 bits, a scale of 32 and a zero point; MLP's rows of 96 are padded to one block of 128.
    assert 4.5 < bits_a_weight(rounded.values()) < 6.2


def test_weights_that_are_not_finite_are_refused(make_language_model, export, tmp_path):
    model = make_language_model()
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[3, 5] = float("nan")
    with pytest.raises(ExportError, match="inf or NaN") as caught:
        export(model, tmp_path, "int4")
    assert "model.layers.1.mlp.up_proj" in str(caught.value.given)


def test_packed_numbers_are_read_back():
    weights = np.random.default_rng(0).standard_normal((6, 3, 32)).astype(np.float32) + 0.5
    scales, zeros = grid_of_blocks(weights, 4)
    numbers = np.clip(np.rint(weights / scales[..., None]), -zeros[..., None], 15 - zeros[..., None])
    matrix = pack_numbers(numbers, scales, zeros, 4, 90)
    assert np.allclose(matrix.dequantized(), (numbers * scales[..., None]).reshape(6, -1)[:, :90], atol=1e-6)
    assert matrix.packed_zero_points().shape == (6, 2)  # three nibbles


@pytest.mark.parametrize(("columns", "expected"), [(896, [896]), (4864, [1536, 1664, 1664]), (2080, [1024, 1056])])
def test_columns_are_grouped_by_whole_blocks(columns, expected):
    groups = column_groups(columns, replace(INT4, block_size=128 if columns != 2080 else 32))
    assert [group.stop - group.start for group in groups] == expected
    assert groups[0].start == 0 and groups[-1].stop == columns


def test_groups_are_joined_in_order(monkeypatch):
    """With nothing to make good, a matrix in groups is the same matrix."""
    torch.manual_seed(0)
    weight = torch.randn(9, 160)
    whole = rounding.compensated(weight, [InputMoments(torch.eye(160), torch.ones(160))], INT4)
    monkeypatch.setattr(rounding, "_GROUP_COLUMNS", 64)
    parts = [InputMoments(torch.eye(size), torch.ones(size)) for size in (32, 64, 64)]
    in_groups = rounding.compensated(weight, parts, INT4)
    assert np.array_equal(whole.dequantized(), in_groups.dequantized())
