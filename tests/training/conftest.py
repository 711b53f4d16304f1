"""Fixtures of the training tests: a small data set on disk."""

import json

import pytest
from PIL import Image


def write_stage_data(folder, samples=16):
    """LLaVA JSON `data.json` about pictures of three colours; every seventh sample is text alone."""
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


@pytest.fixture(scope="session")
def stage_data(tmp_path_factory):
    """A folder with `data.json`: 16 samples, two of them text alone."""
    return write_stage_data(tmp_path_factory.mktemp("stage-data"))


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Tiny matrices gain nothing from threads, and on a busy machine threads wait for each other."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
