"""A model's layers are rounded in one pass over text: grids are whole, eight bits stay eight."""

import numpy as np
import pytest
import torch

from laco_export.errors import ExportError
from laco_export.exporter.decoder import DECODER_PRECISIONS
from laco_export.exporter.decoder.rounding import bits_a_weight, round_layers
from laco_export.exporter.n_bits import grid_of_blocks, pack_numbers


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
