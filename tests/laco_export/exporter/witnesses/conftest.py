"""A model whose single pictures are tiled, and its processor."""

import pytest

from ....conftest import tiny_model, tiny_tokenizer

TILING = {"tile": 56, "max_rows": 3, "max_columns": 3, "max_tiles": 4}


@pytest.fixture(scope="module")
def make_tiled():
    """``make_tiled(**options)``: model and processor; by default grids of up to 3 x 3, scaled down above 4 tiles."""
    from laco_export.models import LacoProcessor

    def make(**options):
        model = tiny_model(**{"tiling": TILING, **options})
        return model, LacoProcessor.for_model(model, tiny_tokenizer())

    return make
