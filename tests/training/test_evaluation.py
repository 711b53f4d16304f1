"""The questions that are asked again about other pictures. What the kept checkpoint answers: tests/whole/training."""

from pathlib import Path

from laco_training.data import read_entries
from laco_training.evaluation import shuffle_pictures

QUESTIONS = Path(__file__).resolve().parents[1] / "assets" / "tiny-heldout" / "heldout.json"


def test_every_picture_is_shuffled_within_its_kind():
    entries = read_entries(QUESTIONS)
    shuffled = shuffle_pictures(entries)
    kind_of = {entry["image"]: entry["kind"] for entry in entries}
    for entry, (picture,) in zip(entries, shuffled, strict=True):
        assert picture != entry["image"]
        assert kind_of[picture] == entry["kind"]
