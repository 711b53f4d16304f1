"""The document, the table and the sheets."""

import numpy as np
import pytest
from PIL import Image

from laco_export.merge_path import MergePath
from laco_export.preprocessing import load_image
from laco_training.price.measurement import DepthPrice, SamplePrice
from laco_training.price.report import error_map, price_table, sheet_name, shown_tile


def sample(name, error, **changes):
    values = {
        "name": name,
        "question": "What?",
        "relative_error": error,
        "cosine": 1 - error,
        "before": "a cat",
        "after": "a dog",
        "same_answer": False,
        "same_first_token": True,
        "tokens_kept": 0.5,
        "worst_tile": 0,
        "token_errors": (0.0, 0.0, 0.0, 1.0),
    }
    return SamplePrice(**{**values, **changes})


def encode(milliseconds):
    return {"milliseconds": milliseconds, "spread": 0.0, "cpu_over_wall": 1.0, "rejected": 0}


def test_the_table_holds_ratios_and_shares():
    rows = [
        DepthPrice("off", None, 16, 1000, encode(8.0)),
        DepthPrice(
            "1/2", MergePath((2,), (2,)), 4, 620, encode(5.0), [sample("a", 0.2), sample("b", 0.4, same_answer=True)]
        ),
        DepthPrice("1/4+3/4", MergePath((6, 18), (2, 2)), 1, 300, encode(4.0), [sample("a", 0.125)]),
    ]
    from rich.console import Console

    console = Console(width=80, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    console.print(price_table(rows, is_trained=False))
    text = console.export_text()
    line = next(line for line in text.splitlines() if "1/2 (block 2)" in line)
    assert "16 tokens a tile become 4" in text and "8.0 ms" in " ".join(text.split())
    assert "…" not in text
    for figure in ("0.620", "0.625", "0.300", "0.700", "50%", "100%"):
        assert figure in line
    path = next(line for line in text.splitlines() if "1/4+3/4" in line)
    assert "0.125" in path and "0.875" in path and "(blocks 6+18)" in text
    assert "nothing trained" in text


def test_a_map_is_red_where_the_error_is():
    tile = Image.new("RGB", (4, 4), "white")
    drawn = np.asarray(error_map(tile, np.array([0.0, 0.0, 1.0, 0.0]), (2, 2)), int)
    redness = drawn[..., 0] - drawn[..., 1:].mean(-1)
    assert (redness[2:, :2] > 100).all()
    redness[2:, :2] = 0
    assert (redness == 0).all()


def test_a_tile_is_shown_as_the_encoder_sees_it(whole_model, make_tiny_checkpoint, whole_checkpoint, photos):
    from laco_export.models import LacoProcessor

    processor = LacoProcessor.from_pretrained(whole_checkpoint)
    picture = load_image(photos / "0.png")
    pixels = processor(images=[picture], text="<image>", return_tensors="np")["pixel_values"]
    expected = processor.image_processor.preprocessing.resize_and_crop(picture)
    assert np.abs(np.asarray(shown_tile(pixels[0], processor), int) - expected).max() <= 1


@pytest.mark.parametrize(
    ("at", "name"), [("1/2", "worst-at1_2.png"), ("block:3", "worst-atblock3.png"), ("1/4+3/4", "worst-at1_4+3_4.png")]
)
def test_names_of_sheets(at, name):
    assert sheet_name(DepthPrice(at, MergePath((1,), (2,)), 4, 1, encode(1.0))) == name
