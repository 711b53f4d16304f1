"""Pictures and videos for each token layout: the engines' tiles and places are those of the checkpoint's processor."""

import dataclasses

import numpy as np
import pytest

from laco_engines.prompts.visuals import VisualPreparer
from laco_export.bundle import open_bundle
from laco_export.models import LacoProcessor

ANYRES = {"tile": 56, "max_rows": 3, "max_columns": 3, "max_tiles": 4}
CLOSEST = {"tile": 56, "rule": "aspect_ratio", "max_tiles": 6}
TILINGS = {"laco": ANYRES, "llava": None, "llava_next": ANYRES, "llava_onevision": ANYRES, "internvl": CLOSEST}


@pytest.fixture
def sides(answering_model, bundle, rewritten):
    """``sides(token_layout)``: the engines' preparer and a processor with the same layout."""

    def make(token_layout):
        tiling, processor = TILINGS[token_layout], answering_model[1]
        vision = dataclasses.replace(
            bundle.manifest.vision,
            tiling=tiling,
            token_layout=token_layout,
            image_newline="image_newline.npy" if tiling is ANYRES else None,
        )
        preparer = VisualPreparer(open_bundle(rewritten(newline=tiling is ANYRES, vision=vision)))
        fields = {"image_seq_length": processor.image_seq_length, "token_grid": processor.token_grid}
        ours = LacoProcessor(
            processor.image_processor, processor.tokenizer, tiling=tiling, token_layout=token_layout, **fields
        )
        return preparer, ours

    return make


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("token_layout", TILINGS)
def test_pictures_are_the_processors(sides, make_picture, token_layout, count):
    preparer, processor = sides(token_layout)
    pictures = [make_picture(seed, size) for seed, size in enumerate([(160, 80), (50, 90)][:count])]
    placed = processor.place(["<image>" * count], pictures)
    for picture, expected, tokens in zip(pictures, placed.pictures, placed.tokens, strict=True):
        visual = preparer.picture(picture, alone=count == 1)
        assert np.array_equal(visual.pixel_values, processor.tiles(*expected))
        assert len(visual) == tokens
        (layout,) = processor.token_layouts([expected[1]])
        assert np.array_equal(visual.layout.indices, layout.indices)


@pytest.mark.parametrize("token_layout", TILINGS)
def test_frames_are_the_processors(sides, make_picture, token_layout):
    preparer, processor = sides(token_layout)
    frames = [make_picture(seed, (70, 90)) for seed in range(3)]
    placed = processor.place(["<video>"], [], [frames])
    visuals = preparer.video(frames)
    assert [len(visual) for visual in visuals] == placed.tokens
    assert (len(visuals[-1]) - len(visuals[0]) == 1) is (token_layout == "llava_onevision")  # the newline
    for visual, expected in zip(visuals, placed.pictures, strict=True):
        assert np.array_equal(visual.pixel_values, processor.tiles(*expected))


@pytest.mark.parametrize("token_layout", ["llava_next", "internvl"])
def test_low_detail_is_one_tile_where_each_picture_is_tiled(sides, make_picture, token_layout):
    preparer, _ = sides(token_layout)
    wide = make_picture(0, (160, 60))
    assert preparer.picture(wide, alone=False).layout.tiles > 2
    assert preparer.picture(wide, alone=True, low_detail=True).layout.tiles == 1
