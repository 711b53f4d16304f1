"""Data files, pictures and processors for the tests of ``laco_training.data``."""

import json

import pytest
from PIL import Image


def turns(*texts):
    """A conversation in LLaVA's form, the human first."""
    return [{"from": ("human", "gpt")[i % 2], "value": text} for i, text in enumerate(texts)]


def picture(number=0, size=(60, 40)):
    return Image.new("RGB", size, (number * 37 % 256, number * 91 % 256, 50))


@pytest.fixture(scope="session")
def make_turns():
    return turns


@pytest.fixture(scope="session")
def make_picture():
    return picture


@pytest.fixture(scope="session")
def make_processor(make_tiny_model, tiny_checkpoint):
    """``make_processor(**model_options)``: the processor of a tiny model; its tokenizer has one token a byte."""
    from laco_export.models import LacoProcessor

    tokenizer = LacoProcessor.from_pretrained(tiny_checkpoint).tokenizer

    def make(**options):
        return LacoProcessor.for_model(make_tiny_model(**options), tokenizer)

    return make


@pytest.fixture(scope="session")
def processor(make_processor):
    """One tile a picture, 4 tokens a tile."""
    return make_processor()


@pytest.fixture
def write_json(tmp_path):
    """``write_json(entries, name="data.json")``: the file; a picture ``a.png`` of 60 x 40 pixels lies beside it."""

    def write(entries, name="data.json"):
        picture().save(tmp_path / "a.png")
        path = tmp_path / name
        if name.endswith(".jsonl"):
            path.write_text("".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries), "utf-8")
        else:
            path.write_text(json.dumps(entries, ensure_ascii=False), "utf-8")
        return path

    return write


@pytest.fixture
def write_parquet():
    """``write_parquet(rows, path, row_group=…)``: a file as ``datasets`` publishes it; rows hold pictures or None."""
    import datasets

    text = datasets.Value("string")
    features = datasets.Features(
        {
            "id": text,
            "image": datasets.Image(),
            "conversations": [{"from": text, "value": text}],
            "data_source": text,
        }
    )

    def write(rows, path, *, row_group=None):
        rows = [{"data_source": "test", "image": None, **row} for row in rows]
        datasets.Dataset.from_list(rows, features=features).to_parquet(path, batch_size=row_group)
        return path

    return write
