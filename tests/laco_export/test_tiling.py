"""Tiles and token layouts against transformers' LLaVA-OneVision code, which this project's own never calls."""

import importlib
import math
import random

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import GotOcr2ImageProcessor
from transformers.image_processing_utils import select_best_resolution
from transformers.models.llava_onevision.modeling_llava_onevision import LlavaOnevisionModel, unpad_image

from laco_export.errors import ConfigError
from laco_export.layout_rules import SINGLE_TILE, VIDEO_END, VIDEO_FRAME
from laco_export.preprocessing import ImagePreprocessing
from laco_export.tiling import Tiling, sample_frames
from laco_export.token_layouts import (
    check_token_layout,
    layouts,
    pack_tokens,
    scale_down,
    tiled_layout,
    video_frame_layout,
)

# Where transformers 5 does without torchvision, the class and what it calls lie in a module of their own.
optimal_tiled_canvas = importlib.import_module(GotOcr2ImageProcessor.__module__).get_optimal_tiled_canvas

SIZES = [(random.Random(i).randint(1, 1500), random.Random(-i - 1).randint(1, 1500)) for i in range(300)]
SIZES += [(47, 188), (188, 47)]  # 2.9999999999999996 rows or columns of tokens, which are three
TILE = 28


@pytest.mark.parametrize("side", [2, 3])
def test_layouts_pack_as_llava_onevision_does(side):
    """Random pictures: the grid, the un-padding, the newlines and the scaling down to nine tiles."""
    tiling = Tiling(TILE, max_rows=6, max_columns=6)
    pinpoints = [[r * TILE, c * TILE] for r in range(1, 7) for c in range(1, 7)]
    model = LlavaOnevisionModel.__new__(LlavaOnevisionModel)
    torch.nn.Module.__init__(model)
    vision = type("Vision", (), {"image_size": TILE, "patch_size": TILE // side})
    model.config = type("Config", (), {"vision_config": vision, "image_grid_pinpoints": pinpoints})
    scaled = 0
    for height, width in SIZES:
        assert tuple(g * TILE for g in tiling.choose(height, width)) == select_best_resolution(
            (height, width), pinpoints
        )
        rows, columns = tiling.choose(height, width)
        features = (
            np.random.default_rng(height).standard_normal((1 + rows * columns, side * side, 3)).astype(np.float32)
        )
        newline = np.full(3, 9.0, np.float32)
        layout = tiled_layout(tiling, height, width, (side, side))
        shape = unpad_image(torch.zeros(1, rows * side, columns * side), (height, width)).shape
        if 0 in shape:  # a picture so flat that LLaVA-OneVision keeps none of its grid; here a row stays
            assert len(layout) > side * side
            continue
        (expected,), _ = model.pack_image_features(
            [torch.from_numpy(features)], [(height, width)], torch.from_numpy(newline), "anyres_max_9"
        )
        actual = pack_tokens(features, [layout], newline)
        np.testing.assert_allclose(actual, expected.numpy(), rtol=0, atol=1e-5)
        scaled += layout.indices.shape[1] == 4
    assert scaled > 20  # the scaling down was exercised


@pytest.mark.parametrize(("least", "most"), [(1, 12), (1, 6), (2, 9), (4, 4), (1, 2)])
def test_the_closest_grid_is_internvls(least, most):
    tiling = Tiling(TILE, rule="aspect_ratio", min_tiles=least, max_tiles=most)
    for height, width in [*SIZES, *((TILE * r, TILE * c) for r in range(1, 8) for c in range(1, 8))]:
        columns, rows = optimal_tiled_canvas((height, width), (TILE, TILE), least, most)
        assert tiling.choose(height, width) == (rows, columns)


@pytest.mark.parametrize("size", [(300, 110), (90, 200), (28, 28), (60, 61), (500, 480)])
def test_tiles_are_internvls(size):
    """Row by row, squashed, the whole picture last where there are several."""
    half = (0.5,) * 3
    tiling = Tiling(TILE, rule="aspect_ratio", max_tiles=6)
    processor = GotOcr2ImageProcessor(
        size={"height": TILE, "width": TILE}, crop_to_patches=True, max_patches=6, image_mean=half, image_std=half
    )
    values = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    picture = Image.fromarray(values).resize(size)
    expected = processor(picture, return_tensors="np")["pixel_values"]
    tiles = tiling.split(picture, ImagePreprocessing(TILE, TILE, "squash", half, half))
    assert tiles.tobytes() == np.ascontiguousarray(expected).tobytes()
    assert len(tiles) == tiling.tiles_of(size[1], size[0])
    layout = tiled_layout(tiling, size[1], size[0], (2, 2))
    assert layout.indices[:, 0].tolist() == list(range(4 * len(tiles)))


def test_a_newline_ends_what_the_family_ends_so():
    sizes = [SINGLE_TILE, VIDEO_FRAME, VIDEO_END]
    tiling = Tiling(TILE)
    of = lambda name: [
        len(plan) for plan in layouts(sizes, grid=(5, 5), tiling=tiling, video_pooling=2, token_layout=name)
    ]
    assert of("llava_onevision") == [26, 9, 10]
    assert of("llava_next") == [26, 9, 10]
    assert of("laco") == [25, 9, 10]
    (single, _, end) = layouts(sizes, grid=(5, 5), tiling=tiling, video_pooling=2, token_layout="llava_onevision")
    features = np.random.default_rng(0).standard_normal((2, 25, 3)).astype(np.float32)
    packed = pack_tokens(features, [single, end], np.full(3, 9.0, np.float32))
    assert (packed[25] == 9).all()
    assert (packed[-1] == 9).all()
    assert np.array_equal(packed[:25], features[0])


@pytest.mark.parametrize(
    ("name", "tiling", "said"),
    [
        ("qwen_vl", None, "token_layout is unknown"),
        ("llava_onevision", None, "ends pictures in a newline"),
        ("llava_next", Tiling(TILE, rule="aspect_ratio"), "ends pictures in a newline"),
        ("internvl", Tiling(TILE), "has no newline"),
    ],
)
def test_a_layout_with_another_familys_tiling_is_refused(name, tiling, said):
    with pytest.raises(ConfigError, match=said):
        check_token_layout(name, tiling)


def test_split_shows_the_picture_where_the_layout_says():
    """Tiles put side by side again, without the padding that the layout cuts, are the resized picture."""
    tiling = Tiling(TILE)
    plain = ImagePreprocessing(TILE, TILE, "squash", (0.0,) * 3, (1.0,) * 3)
    rng = np.random.default_rng(0)
    for height, width in ((60, 200), (300, 90), (28, 28), (100, 101)):
        image = Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))
        rows, columns = tiling.choose(height, width)
        tiles = tiling.split(image, plain)
        assert tiles.shape == (1 + rows * columns, 3, TILE, TILE)
        squashed = np.asarray(image.resize((TILE, TILE), Image.Resampling.BICUBIC))
        np.testing.assert_array_equal((tiles[0] * 255).round().transpose(1, 2, 0), squashed)
        canvas = tiles[1:].reshape(rows, columns, 3, TILE, TILE).transpose(2, 0, 3, 1, 4)
        canvas = (canvas.reshape(3, rows * TILE, columns * TILE) * 255).round()
        scale = min(columns * TILE / width, rows * TILE / height)
        size = (min(math.ceil(width * scale), columns * TILE), min(math.ceil(height * scale), rows * TILE))
        top, left = (rows * TILE - size[1]) // 2, (columns * TILE - size[0]) // 2
        seen = canvas[:, top : top + size[1], left : left + size[0]].transpose(1, 2, 0)
        np.testing.assert_array_equal(seen, np.asarray(image.resize(size, Image.Resampling.BICUBIC)))
        assert canvas.sum() == seen.sum()  # the rest is black


@pytest.mark.parametrize(
    ("before", "after"), [((12, 12), (6, 6)), ((27, 27), (14, 14)), ((9, 16), (4, 11)), ((3, 3), (3, 3))]
)
def test_scale_down_is_torchs_bilinear(before, after):
    values = torch.randn(before)
    indices, weights = scale_down(np.arange(values.numel()).reshape(before), after)
    expected = torch.nn.functional.interpolate(values[None, None], after, mode="bilinear")[0, 0]
    actual = (values.numpy().ravel()[indices] * weights).sum(1).reshape(after)
    np.testing.assert_allclose(actual, expected, rtol=0, atol=1e-5)


def test_video_frames_pool():
    assert len(video_frame_layout((27, 27), 2)) == 196  # LLaVA-OneVision's figure
    assert len(video_frame_layout((12, 12), 1)) == 144


def test_sample_frames():
    assert sample_frames(5, 32) == [0, 1, 2, 3, 4]
    assert sample_frames(100, 4) == [0, 33, 66, 99]
    assert len(sample_frames(1000, 32)) == 32
    with pytest.raises(ConfigError, match="at least one frame"):
        sample_frames(0, 32)


def test_layouts_by_image_sizes():
    token_layouts = layouts([SINGLE_TILE, VIDEO_FRAME, (50, 100)], grid=(4, 4), tiling=Tiling(TILE), video_pooling=2)
    assert [len(layout) for layout in token_layouts[:2]] == [16, 4]
    assert token_layouts[2].tiles == 9  # 2 x 4 and the base
    with pytest.raises(ConfigError, match="no tiling"):
        layouts([(50, 100)], grid=(4, 4), tiling=None)


def test_only_the_named_grids():
    assert Tiling(TILE, grids=((1, 2), (2, 1))).choose(500, 480) in ((1, 2), (2, 1))
    with pytest.raises(ConfigError, match=r"tiling\.max_tiles"):
        Tiling(TILE, max_tiles=0)
    with pytest.raises(ConfigError, match="unknown fields: rows"):
        Tiling.from_mapping({"tile": 28, "rows": 2})


@pytest.mark.parametrize(
    ("fields", "message"),
    [({"max_rows": 2}, "no field tile"), ({"tile": "28"}, r"tiling\.tile"), ({"tile": 28, "grids": [2]}, "pairs")],
)
def test_wrong_fields_are_named(fields, message):
    with pytest.raises(ConfigError, match=message):
        Tiling.from_mapping(fields)
