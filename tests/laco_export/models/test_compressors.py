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


def test_the_misaligned_residual_mixes_neighbouring_channels():
    compressor = build_compressor("laco_misaligned", 8, ratio=2, mlp_hidden_size=None)
    grid = torch.randn(1, 2, 2, 8)
    branch = compressor(grid) - compressor.mlp(space_to_channel(grid, 2))
    tokens = grid[0].reshape(4, 8).numpy()  # position-major: token by token
    np.testing.assert_allclose(branch[0, 0, 0].detach(), tokens.reshape(-1).reshape(8, 4).mean(1), atol=1e-6)


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def affine(x, weights, name):
    bias = weights.get(f"{name}.bias", 0.0)
    return x @ weights[f"{name}.weight"].T + bias


def test_ldpv2_against_its_description():
    """Linear-GELU-Linear, 2x2 average pooling, plus a depthwise 3x3 convolution of the pooled map (zero-padded)."""
    torch.manual_seed(0)
    grid = torch.randn(2, 6, 8, 5, dtype=torch.float64)
    compressor = build_compressor("ldpv2", 5, ratio=2, mlp_hidden_size=7).double()
    weights = {name: tensor.detach().numpy() for name, tensor in compressor.named_parameters()}
    hidden = affine(gelu(affine(grid.numpy(), weights, "linear_1")), weights, "linear_2")
    pooled = np.zeros((2, 3, 4, 5))
    for y in range(3):
        for x in range(4):
            pooled[:, y, x] = hidden[:, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean((1, 2))
    expected = pooled + weights["position.bias"]
    for y in range(3):
        for x in range(4):
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    if 0 <= y + dy < 3 and 0 <= x + dx < 4:
                        kernel = weights["position.weight"][:, 0, dy + 1, dx + 1]
                        expected[:, y, x] += pooled[:, y + dy, x + dx] * kernel
    np.testing.assert_allclose(compressor(grid).detach().numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("ratio", [2, 3, 4])
def test_token_packer_against_its_description(ratio):
    """Each coarse query (bilinear down-sample) attends to the r² fine tokens of its own window, then an MLP."""
    torch.manual_seed(0)
    width, heads = 256, 2
    grid = torch.randn(1, 2 * ratio, 3 * ratio, width, dtype=torch.float64)
    compressor = build_compressor("token_packer", width, ratio=ratio, mlp_hidden_size=9).double()
    for norm in (compressor.query_norm, compressor.key_norm, compressor.value_norm):
        torch.nn.init.normal_(norm.weight)
        torch.nn.init.normal_(norm.bias)
    weights = {name: tensor.detach().numpy() for name, tensor in compressor.named_parameters()}

    def norm(x, name):
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def project(x, name):
        return norm(affine(gelu(affine(x, weights, f"{name}.0")), weights, f"{name}.2"), f"{name}_norm")

    x, actual = grid[0].numpy(), compressor(grid)[0].detach().numpy()
    for row in range(2):
        for column in range(3):
            window = x[row * ratio : (row + 1) * ratio, column * ratio : (column + 1) * ratio]
            centre = (ratio - 1) / 2  # where a pixel-centred bilinear down-sample reads
            near, far = math.floor(centre), math.ceil(centre)
            coarse = (window[near, near] + window[near, far] + window[far, near] + window[far, far]) / 4
            query = affine(norm(affine(coarse, weights, "query"), "query_norm"), weights, "attention_query")
            tokens = window.reshape(-1, width)
            key = affine(project(tokens, "key"), weights, "attention_key")
            value = affine(project(tokens, "value"), weights, "attention_value")
            packed = np.zeros(width)
            for head in range(heads):
                part = slice(head * width // heads, (head + 1) * width // heads)
                scores = key[:, part] @ query[part] / math.sqrt(width // heads)
                scores = np.exp(scores - scores.max())
                packed[part] = scores / scores.sum() @ value[:, part]
            out = affine(gelu(affine(affine(packed, weights, "attention_out"), weights, "mlp.0")), weights, "mlp.2")
            np.testing.assert_allclose(actual[row, column], out, rtol=0, atol=1e-11)


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
    with pytest.raises(
        ConfigError,
        match=r"compression\.method(.|\n)*average_pool, laco, laco_misaligned, ldpv2, pixel_shuffle, token_packer",
    ):
        build_compressor("lacoo", 8, ratio=2, mlp_hidden_size=None)
