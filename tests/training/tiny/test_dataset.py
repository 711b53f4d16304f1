"""The drawn data: on disk in LLaVA's form, balanced, and nothing held out in it."""

import hashlib
import json
import re
from collections import Counter

import pytest
from PIL import Image

from laco_training.tiny.dataset import HELD_OUT_KINDS, DataSizes, write_data
from laco_training.tiny.texts import is_held_out

SIZES = DataSizes(
    pages=40, pictures=120, texts=60, captions=100, recaptions=80, single_image=80, one_vision=80, held_out=60
)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_data(folder, SIZES, seed=0)
    return folder


def read(data, name):
    return json.loads((data / name).read_text())


def hash_of(path):
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return hashlib.sha256(picture.convert("RGB").tobytes()).hexdigest()


def test_held_out_questions_are_balanced_and_each_has_its_own_picture(data):
    entries = read(data, "heldout.json")
    assert Counter(entry["kind"] for entry in entries) == dict.fromkeys(HELD_OUT_KINDS, 10)
    assert len({entry["image"] for entry in entries}) == len(entries)
    for entry in entries:
        assert [turn["from"] for turn in entry["conversations"]] == ["human", "gpt"]
        assert entry["conversations"][0]["value"].startswith("<image>\n")


def test_no_held_out_picture_is_trained_on(data):
    held_out = {hash_of(path) for path in (data / "pictures" / "heldout").iterdir()}
    assert len(held_out) == SIZES.held_out
    for split in ("train", "pages"):
        assert held_out.isdisjoint(hash_of(path) for path in (data / "pictures" / split).iterdir())


def test_no_held_out_word_or_number_is_trained_on(data):
    asked = {e["conversations"][1]["value"] for e in read(data, "heldout.json") if e["kind"] in ("words", "digits")}
    assert len(asked) > 10
    assert all(is_held_out(text) for text in asked)
    for name in ("captions.json", "recaptions.json", "single-image.json", "one-vision.json", "texts.json"):
        text = (data / name).read_text()
        written = set(re.findall(r"\b[A-Z]{3}\b", text)) | set(re.findall(r"\b[0-9]{2,3}\b", text))
        assert len(written) > 10
        assert written.isdisjoint(asked), name
        assert not any(is_held_out(w) for w in written if w.isalpha()), name


def test_the_same_seed_draws_the_same(data, tmp_path):
    write_data(tmp_path, SIZES, seed=0)
    for name in ("heldout.json", "captions.json", "texts.json"):
        assert read(tmp_path, name) == read(data, name)
    first = "pictures/train/00000.png"
    assert (tmp_path / first).read_bytes() == (data / first).read_bytes()


def test_one_vision_has_pairs(data):
    entries = read(data, "one-vision.json")
    pairs = [entry for entry in entries if isinstance(entry["image"], list)]
    assert 0.2 < len(pairs) / len(entries) < 0.6
    assert all(entry["conversations"][0]["value"].count("<image>") == 2 for entry in pairs)
