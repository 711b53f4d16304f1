"""A tiny model with compression off on disk, and pictures."""

import numpy as np
import pytest
from PIL import Image


@pytest.fixture(scope="session")
def whole_model(make_tiny_model):
    """``whole_model(**options)``: four blocks, 4 × 4 tokens, compression off."""

    def make(**options):
        return make_tiny_model("siglip", blocks=4, at="1", method=None, **options)

    return make


@pytest.fixture(scope="session")
def whole_checkpoint(whole_model, make_tiny_checkpoint, tmp_path_factory):
    """A folder with it."""
    return make_tiny_checkpoint(whole_model(), tmp_path_factory.mktemp("price") / "whole")


@pytest.fixture(scope="session")
def photos(tmp_path_factory):
    """A folder of six pictures of noise and one file that is none."""
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for number in range(6):
        Image.fromarray(random.integers(0, 255, (40 + number, 50, 3), np.uint8)).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder
