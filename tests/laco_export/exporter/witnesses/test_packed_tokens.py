"""Visual tokens stand where the picture shows them; another order, a lost newline or row is told."""

import numpy as np
import pytest
import torch

from laco_export import token_layouts as tilings
from laco_export.errors import ExportError
from laco_export.exporter.witnesses.packed_tokens import check_packed_tokens

from .conftest import TILING


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tiling": None},
        {"tiling": None, "video_pooling": 2},
        {"tiling": {**TILING, "max_tiles": 1}},
        {"tiling": {**TILING, "max_rows": 2, "max_tiles": 9}, "video_pooling": 2},
        {"tiling": {"tile": 56, "grids": [[1, 2], [2, 1], [2, 2]]}},
        {"tiling": {"tile": 70, "max_rows": 4, "max_columns": 4, "max_tiles": 3}, "grid": (5, 5), "video_pooling": 2},
        {"method": None, "video_pooling": 3},
        {"token_layout": "llava_onevision", "video_pooling": 2},
        {"token_layout": "llava_next"},
        {"token_layout": "internvl", "tiling": {"tile": 56, "rule": "aspect_ratio", "max_tiles": 6}},
        {"token_layout": "internvl", "tiling": {"tile": 56, "rule": "aspect_ratio", "min_tiles": 3}},
    ],
    ids=str,
)
def test_both_packings_are_the_mosaic(make_tiled, options):
    checks = check_packed_tokens(make_tiled(**options)[0])
    assert [check.watched for check in checks] == ["the model's visual tokens", "the engines' visual tokens"]
    assert all(check.cases >= 3 and check.max_abs < 2e-6 * check.largest for check in checks)


def permuted(axes):
    """Tiles laid out by another permutation of (rows, columns, H, W)."""

    class Permuted(np.ndarray):
        def transpose(self, *given):
            return np.asarray(self).transpose(*(axes if given == (0, 2, 1, 3) else given))

    arange = np.arange
    return lambda *arguments: arange(*arguments).view(Permuted)


def with_indices(change):
    """All layouts with other indices."""
    given = tilings.layouts

    def layouts(*arguments, **named):
        return [
            tilings.TokenLayout(change(plan.indices, plan.tiles), plan.weights, plan.tiles)
            for plan in given(*arguments, **named)
        ]

    return layouts


FAULTS = {
    "rolled by one": lambda indices, tiles: np.roll(indices, 1, axis=0),
    "the base tile last": lambda indices, tiles: np.roll(indices, -4, axis=0),
    "newlines lost": lambda indices, tiles: np.where(indices == 4 * tiles, 0, indices),
    "tiles the other way round": lambda indices, tiles: np.where(
        indices < 4 * tiles, indices % 4 + 4 * (tiles - 1 - indices // 4), indices
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_another_order_is_told(make_tiled, monkeypatch, fault):
    """In the model and in the engines at once: they share the layouts."""
    from laco_export.exporter.witnesses import packed_tokens
    from laco_export.models import modeling

    faulty = with_indices(FAULTS[fault])
    monkeypatch.setattr(modeling, "layouts", faulty)
    monkeypatch.setattr(packed_tokens, "layouts", faulty)
    with pytest.raises(ExportError, match="the model's visual tokens are not those of the tiles' places"):
        check_packed_tokens(make_tiled()[0])


def test_a_grid_of_tiles_by_columns_is_told(make_tiled, monkeypatch):
    arange = permuted((1, 2, 0, 3))
    monkeypatch.setattr(tilings.np, "arange", arange)
    with pytest.raises(ExportError, match="visual tokens are not those"):
        check_packed_tokens(make_tiled()[0])


def test_a_fault_of_the_engines_alone_is_told(make_tiled, monkeypatch):
    from laco_export.exporter.witnesses import packed_tokens

    pack = packed_tokens.pack_tokens
    monkeypatch.setattr(packed_tokens, "pack_tokens", lambda *given: np.roll(pack(*given), 1, axis=0))
    with pytest.raises(ExportError, match="the engines' visual tokens"):
        check_packed_tokens(make_tiled()[0])


def test_the_mosaic_is_transformers_own(make_tiled):
    """LLaVA-OneVision's packing of the same tiles, of its own class."""
    from transformers import LlavaOnevisionConfig, LlavaOnevisionModel, Qwen2Config, SiglipVisionConfig

    from laco_export.exporter.witnesses.packed_tokens import mosaic, numbered_features, sizes_to_pack

    model, _ = make_tiled(method=None)
    tiling = model.config.tiling_config
    grids = [[56 * (row + 1), 56 * (column + 1)] for row in range(3) for column in range(3)]
    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(image_size=56, patch_size=14, **small),
        text_config=Qwen2Config(vocab_size=32, num_key_value_heads=1, **small),
        image_grid_pinpoints=grids,
    )
    packer = LlavaOnevisionModel(config)
    sizes = [size for size in sizes_to_pack(tiling) if min(size) > 14]  # of a sliver transformers keeps no row
    newline = model.image_newline.detach()
    features = numbered_features(model, sizes)
    expected, _ = packer.pack_image_features(
        [torch.from_numpy(tiles) for tiles in features], torch.tensor(sizes), newline, "anyres_max_4"
    )
    for tiles, size, tokens in zip(features, sizes, expected, strict=True):
        packed = mosaic(tiles, size, (4, 4), tiling, newline.numpy(), 1)
        np.testing.assert_allclose(packed, tokens.numpy(), atol=1e-6)
