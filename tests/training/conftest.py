"""Fixtures of the training tests: a small data set on disk, a batch, and what a model learns of it."""

import json
import sys
from pathlib import Path

import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parent))

from one_thread import one_thread  # noqa: F401


def write_stage_data(folder, samples=16):
    """LLaVA JSON ``data.json`` about pictures of three colours; every seventh sample is text alone."""
    entries = []
    for index in range(samples):
        colour = ["red", "green", "blue"][index % 3]
        turns = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": colour * (index % 4 + 1)}]
        entries.append({"id": f"s{index}", "image": f"{index}.png", "conversations": turns})
        if index % 7 == 6:
            del entries[-1]["image"]
            turns[0]["value"] = "What?"
        Image.new("RGB", (30 + index, 40), colour).save(folder / f"{index}.png")
    (folder / "data.json").write_text(json.dumps(entries))
    return folder


def picture_batch(model, texts=((5, 6, 7), (8, 9))):
    """Rows of one picture and a text whose second half counts, padded at the right."""
    import torch

    from laco_training.data import IGNORED

    longest = max(map(len, texts))
    ids, labels, mask = [], [], []
    for text in texts:
        image = [model.config.image_token_id] * model.tokens_per_image
        pad = longest - len(text)
        counted = [IGNORED if i < len(text) // 2 else token for i, token in enumerate(text)]
        ids.append([*image, *text, *[0] * pad])
        labels.append([IGNORED] * model.tokens_per_image + counted + [IGNORED] * pad)
        mask.append([1] * (model.tokens_per_image + len(text)) + [0] * pad)
    pixels = torch.randn(len(texts), 3, 56, 56, generator=torch.Generator().manual_seed(0))
    batch = {"input_ids": torch.tensor(ids), "labels": torch.tensor(labels), "attention_mask": torch.tensor(mask)}
    return {**batch, "pixel_values": pixels}


def loss_and_gradients(model, batch):
    """The loss, and the gradient of every parameter that has one."""
    model.zero_grad()
    loss = model(**batch, use_cache=False).loss
    loss.backward()
    return loss.item(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.fixture(scope="session")
def stage_data(tmp_path_factory):
    """A folder with ``data.json``: 16 samples, two of them text alone."""
    return write_stage_data(tmp_path_factory.mktemp("stage-data"))


@pytest.fixture(scope="session")
def make_batch():
    """``make_batch(model, texts=…)``: a picture and a text in each row."""
    return picture_batch


@pytest.fixture(scope="session")
def gradients():
    """``gradients(model, batch)``: the loss, and each parameter's gradient by its name."""
    return loss_and_gradients


@pytest.fixture(scope="session")
def make_plain():
    """``make_plain(folder)``: leave of a language model's tokenizer what a conversion from GGUF leaves.

    Special tokens are ordinary text, none pads or ends, and those of pictures are missing, as are the model's rows.
    """

    def make(folder):
        from transformers import AutoModelForCausalLM

        stored = json.loads((folder / "tokenizer.json").read_text())
        special = [token["content"] for token in stored["added_tokens"]][:-2]
        first = len(stored["model"]["vocab"])
        stored["model"]["vocab"] |= {token: first + index for index, token in enumerate(special)}
        stored["added_tokens"] = []
        for path in folder.glob("*token*"):
            path.unlink()
        (folder / "tokenizer.json").write_text(json.dumps(stored))
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "PreTrainedTokenizerFast"}))
        model = AutoModelForCausalLM.from_pretrained(folder)
        model.resize_token_embeddings(first + len(special))
        model.save_pretrained(folder)

    return make
