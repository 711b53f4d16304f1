"""A packed row gives the loss and the gradients of the padded batch."""

import pytest
import torch

from laco_training.data import IGNORED, Collator, open_dataset


@pytest.fixture
def samples(write_json, make_processor, make_turns):
    entries = [
        {"id": "tiled", "image": "a.png", "conversations": make_turns("<image>\nWhat is it?", "a cat", "Sure?", "yes")},
        {"id": "two", "image": ["a.png", "a.png"], "conversations": make_turns("<image><image>?", "no")},
        {"id": "text", "conversations": make_turns("Hello", "a rather long answer to this")},
    ]
    dataset = open_dataset(write_json(entries), make_processor(tiling={"tile": 56}))
    return [dataset[index] for index in range(3)]


def test_a_padded_batch(samples):
    batch = Collator(7)(samples)
    lengths = [len(sample["input_ids"]) for sample in samples]
    assert batch["attention_mask"].sum(1).tolist() == lengths
    for row, length in enumerate(lengths):
        assert torch.equal(batch["input_ids"][row, :length], samples[row]["input_ids"])
        assert (batch["input_ids"][row, length:] == 7).all() and (batch["labels"][row, length:] == IGNORED).all()
    tiles = [len(sample["pixel_values"]) for sample in samples[:2]]
    assert tiles == [len(samples[0]["pixel_values"]), 2] and tiles[0] > 1
    assert len(batch["pixel_values"]) == sum(tiles)
    assert batch["image_sizes"].tolist() == [[40, 60], [0, 0], [0, 0]]
    assert batch["notes"].ids == ["tiled", "two", "text"] and batch["notes"].complete


@pytest.mark.parametrize("plain", [False, True])
def test_packed_equals_padded(samples, make_tiny_model, make_processor, write_json, make_turns, plain):
    if plain:
        entries = [
            {"image": "a.png", "conversations": make_turns("<image>", "one")},
            {"conversations": make_turns("x", "three words here")},
            {"image": "a.png", "conversations": make_turns("<image>", "four")},
        ]
        dataset = open_dataset(write_json(entries), make_processor(tiling={"tile": 56}), plain=True)
        samples = [dataset[index] for index in range(3)]
    model = make_tiny_model(tiling={"tile": 56}).double()
    results = []
    for packed in (False, True):
        batch = Collator(7, packed=packed)(samples)
        batch.pop("notes")
        assert batch["input_ids"].shape[0] == (1 if packed else 3)
        batch["pixel_values"] = batch["pixel_values"].double()
        model.zero_grad()
        loss = model(**batch, use_cache=False).loss
        loss.backward()
        gradients = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
        results.append((loss.item(), gradients))
    (padded, padded_gradients), (packed, packed_gradients) = results
    assert packed == pytest.approx(padded, abs=2e-6)  # transformers takes the loss in FP32
    assert torch.allclose(packed_gradients, padded_gradients, atol=1e-6)
    assert padded_gradients.abs().max() > 1e-3


def test_a_packed_sample_does_not_see_the_one_before(samples, make_tiny_model):
    model = make_tiny_model(tiling={"tile": 56}).double()
    text, two = samples[2], samples[1]

    def last_logits(parts):
        batch = Collator(7, packed=True)(parts)
        batch.pop("notes")
        batch.pop("labels")
        if "pixel_values" in batch:
            batch["pixel_values"] = batch["pixel_values"].double()
        return model(**batch, use_cache=False).logits[0, -len(text["input_ids"]) :]

    assert torch.allclose(last_logits([two, text]), last_logits([text]), atol=1e-12)
