"""A projector that is solved for: its pictures' tokens come near the words of their answers."""

import json

import pytest
import torch
from PIL import Image

from laco_export.errors import ConfigError
from laco_export.models import LacoProcessor, checkpoint
from laco_training.data import open_dataset
from laco_training.projector_start import _rarity, _Regression, start_from_captions

COLOURS = ("red", "green", "blue", "white")


@pytest.fixture
def loaded(tiny_checkpoint):
    return checkpoint.load(tiny_checkpoint)


def write_captions(folder, captions, count=12):
    entries = []
    for index in range(count):
        Image.new("RGB", (40, 40), COLOURS[index % 4]).save(folder / f"{index}.png")
        turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": captions(index)}]
        entries.append({"id": str(index), "image": f"{index}.png", "conversations": turns})
    (folder / "data.json").write_text(json.dumps(entries))
    return folder / "data.json"


def test_pictures_begin_at_the_words_of_their_answers(loaded, tmp_path):
    """Of one-coloured pictures each colour's tokens are told apart: they land on their own word."""
    path = write_captions(tmp_path, lambda index: COLOURS[index % 4])
    dataset = open_dataset(path, LacoProcessor.from_pretrained(loaded.path), plain=True)
    before = loaded.model.projector.linear_1.weight.clone()
    explained = start_from_captions(loaded.model, dataset)
    assert explained > 0.9
    assert torch.equal(loaded.model.projector.linear_1.weight, before)
    table = loaded.model.get_input_embeddings().weight
    answers = [dataset[index]["labels"] for index in range(4)]
    words = [table[answer[answer != -100]].mean(0) for answer in answers]
    with torch.no_grad():
        for index in range(4):
            tokens = loaded.model.get_image_features(dataset[index]["pixel_values"])[0]
            nearest = torch.cdist(tokens, torch.stack(words)).argmin(1)
            assert (nearest == index).float().mean() > 0.9


def test_words_that_all_answers_have_weigh_nothing():
    weights = _rarity([[1, 7, 2], [1, 8, 2], [1, 8, 9, 2]])
    assert weights[1] == weights[2] == 0 < weights[8] < weights[7] == weights[9]


def test_the_regression_is_the_one_of_all_rows():
    torch.manual_seed(0)
    inputs, wanted = torch.randn(5, 6, 4), torch.randn(5, 3)
    sums = _Regression()
    sums.add(inputs[:2], wanted[:2])
    sums.add(inputs[2:], wanted[2:])
    weight, bias, explained = sums.solve()
    x, y = inputs.flatten(0, 1).double(), wanted.double().repeat_interleave(6, 0)
    centred, target = x - x.mean(0), y - y.mean(0)
    ridge = 1e-2 * centred.pow(2).mean(0).mean() * len(x) * torch.eye(4, dtype=x.dtype)
    expected = torch.linalg.solve(centred.T @ centred + ridge, centred.T @ target)
    torch.testing.assert_close(weight, expected.T)
    left = (y - (x @ weight.T + bias)).pow(2).sum() / target.pow(2).sum()
    assert explained == pytest.approx(1 - left.item())


def test_answers_that_are_all_alike_are_refused(loaded, tmp_path):
    path = write_captions(tmp_path, lambda index: "red")
    dataset = open_dataset(path, LacoProcessor.from_pretrained(loaded.path), plain=True)
    with pytest.raises(ConfigError, match="words that others do not have"):
        start_from_captions(loaded.model, dataset)


def test_samples_that_do_not_fit_are_told(loaded, tmp_path):
    path = write_captions(tmp_path, lambda index: COLOURS[index % 4])
    dataset = open_dataset(path, LacoProcessor.from_pretrained(loaded.path), plain=True, max_length=3)
    with pytest.raises(ConfigError, match="cannot be used, such as 0: no answer fits into max_length"):
        start_from_captions(loaded.model, dataset)


def test_a_window_outside_the_encoder_is_read_as_the_projector_reads_it(make_tiny_model, tmp_path, loaded):
    torch.manual_seed(0)
    model = make_tiny_model(method=None, projector={"window": 2, "norm": True}).eval()
    path = write_captions(tmp_path, lambda index: COLOURS[index % 4])
    dataset = open_dataset(path, LacoProcessor.from_pretrained(loaded.path).fitted_to(model), plain=True)
    assert start_from_captions(model, dataset) > 0.5


def test_every_depth_counts(make_tiny_model, tmp_path, loaded):
    """The depth that was set stays set."""
    model = make_tiny_model(at=["1", "1/2"]).eval()
    model.set_depth("1/2")
    path = write_captions(tmp_path, lambda index: COLOURS[index % 4])
    dataset = open_dataset(path, LacoProcessor.from_pretrained(loaded.path), plain=True)
    assert start_from_captions(model, dataset) > 0.5
    assert model.vision_model.block == 1
