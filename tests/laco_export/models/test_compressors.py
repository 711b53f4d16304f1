"""The compressors against definitions written independently of the model code."""

import math

import numpy as np
import pytest
import torch

from laco_export.errors import ConfigError
from laco_export.models.compressors import COMPRESSORS, build_compressor
from laco_export.models.compressors.space_to_channel import space_to_channel


def windows_by_loops(grid, ratio):
    """Each window's tokens as [C, r, r] flattened: the definition, token by token."""
    batch, height, width, channels = grid.shape
    out = np.zeros((batch, height // ratio, width // ratio, channels * ratio**2), grid.dtype)
    for y in range(height // ratio):
        for x in range(width // ratio):
            window = grid[:, y * ratio : (y + 1) * ratio, x * ratio : (x + 1) * ratio]  # [B, r, r, C]
            out[:, y, x] = window.transpose(0, 3, 1, 2).reshape(batch, -1)
    return out


@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_space_to_channel_is_its_definition(ratio):
    grid = torch.randn(2, 12, 24, 5)
    np.testing.assert_array_equal(space_to_channel(grid, ratio).numpy(), windows_by_loops(grid.numpy(), ratio))


@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_average_pool_is_torch_average_pooling(ratio):
    grid = torch.randn(2, 12, 12, 5)
    expected = torch.nn.functional.avg_pool2d(grid.permute(0, 3, 1, 2), ratio).permute(0, 2, 3, 1)
    actual = build_compressor("average_pool", 5, ratio=ratio, mlp_hidden_size=None)(grid)
    torch.testing.assert_close(actual, expected, rtol=0, atol=1e-6)  # the mean of r² values, summed in another order


def numpy_laco(grid, weights, ratio, eps=1e-5):
    """Equations 3 to 5 of the paper in numpy, float64."""
    windows = windows_by_loops(grid, ratio)
    centred = windows - windows.mean(-1, keepdims=True)
    normed = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
    hidden = (normed * weights["norm.weight"] + weights["norm.bias"]) @ weights["linear_1.weight"].T
    hidden = hidden + weights["linear_1.bias"]
    hidden = hidden * 0.5 * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
    merged = hidden @ weights["linear_2.weight"].T + weights["linear_2.bias"]
    batch, height, width, _ = windows.shape
    return merged, merged + windows.reshape(batch, height, width, -1, ratio**2).mean(-1)


@pytest.mark.parametrize("ratio", [2, 3])
def test_laco_and_pixel_shuffle_against_the_equations(ratio):
    torch.manual_seed(0)
    grid = torch.randn(2, 6, 6, 8, dtype=torch.float64)
    for index, method in enumerate(("pixel_shuffle", "laco")):
        compressor = build_compressor(method, 8, ratio=ratio, mlp_hidden_size=12).double()
        torch.nn.init.normal_(compressor.mlp.norm.weight)
        torch.nn.init.normal_(compressor.mlp.norm.bias)
        weights = {name: tensor.detach().numpy() for name, tensor in compressor.mlp.named_parameters()}
        expected = numpy_laco(grid.numpy(), weights, ratio)[index]
        np.testing.assert_allclose(compressor(grid).detach().numpy(), expected, rtol=0, atol=1e-12)


def test_the_only_trained_extra_is_the_mlp():
    compressor = build_compressor("laco", 1024, ratio=2, mlp_hidden_size=None)
    count = sum(parameter.numel() for parameter in compressor.parameters())
    assert count == 2 * 4096 + 4096 * 1024 + 1024 + 1024 * 1024 + 1024  # 5.26 M, as the paper's "about 5.2 M"
    assert not list(build_compressor("average_pool", 1024, ratio=2, mlp_hidden_size=None).parameters())


@pytest.mark.parametrize("method", sorted(COMPRESSORS))
def test_every_compressor_keeps_width_and_divides_the_grid(method):
    out = build_compressor(method, 16, ratio=2, mlp_hidden_size=None)(torch.randn(3, 4, 6, 16))
    assert out.shape == (3, 2, 3, 16)


def test_an_unknown_method_lists_the_known():
    with pytest.raises(ConfigError, match=r"compression\.method(.|\n)*average_pool, laco, pixel_shuffle"):
        build_compressor("lacoo", 8, ratio=2, mlp_hidden_size=None)
