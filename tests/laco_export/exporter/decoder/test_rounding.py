"""A model's layers are rounded in one pass over text: grids are whole, eight bits stay eight."""

import numpy as np
import pytest
import torch

from laco_export.errors import ExportError
from laco_export.exporter.decoder import DECODER_PRECISIONS
from laco_export.exporter.decoder.eight_bits import choose_eight_bits, rounding_error
from laco_export.exporter.decoder.rounding import bits_a_weight, on_own_grid, round_layers
from laco_export.exporter.decoder.skeleton import linear_layers
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("columns", [256, 192])  # groups of 128, and of 64
def test_weights_that_were_four_bits_keep_their_grid(dtype, columns):
    """AWQ and GPTQ store whole zero points; what they stand for is rounded no second time."""
    generator = np.random.default_rng(1)
    numbers = generator.integers(0, 16, (40, columns // 64, 64))
    numbers[:8] = generator.integers(3, 9, numbers[:8].shape)  # rows that use a part of the range
    zeros, scales = generator.integers(0, 16, (40, columns // 64, 1)), generator.uniform(0.001, 0.02, (40, 1, 1))
    if columns == 256:
        zeros = np.repeat(zeros[:, ::2], 2, axis=1)
    weight = torch.from_numpy(((numbers - zeros) * scales).reshape(40, columns)).to(dtype)
    matrix = on_own_grid(weight, DECODER_PRECISIONS["int4"])
    stored = torch.from_numpy(matrix.dequantized())
    steps = torch.from_numpy(scales[:, 0]).float()
    assert ((stored - weight.float()).abs() <= steps * 30 * torch.finfo(dtype).eps).all()
    assert matrix.bits == 4
    assert rounding_error(weight, DECODER_PRECISIONS["int4"]).abs().max() == 0


def test_weights_of_no_grid_have_none():
    weight = torch.randn(40, 256, generator=torch.Generator().manual_seed(0))
    assert on_own_grid(weight, DECODER_PRECISIONS["int4"]) is None
    on_thirty_steps = (weight * 4).round().clamp(-15, 14)
    assert on_own_grid(on_thirty_steps, DECODER_PRECISIONS["int4"]) is None


def test_a_model_that_was_four_bits_loses_nothing(make_language_model, text_prompts):
    model = make_language_model()
    with torch.no_grad():
        for module in linear_layers(model).values():
            module.weight.copy_((module.weight / 0.004).round().clamp(-8, 7) * 0.004)
    rounded = round_layers(model, DECODER_PRECISIONS["int4"], text_prompts.rounding)
    for name, module in linear_layers(model).items():
        assert np.allclose(rounded[name].dequantized(), module.weight.detach().numpy(), atol=1e-7), name
    assert choose_eight_bits(model, DECODER_PRECISIONS["int4"], text_prompts.rounding[0]) == {}
