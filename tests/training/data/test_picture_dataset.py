"""Random parts of pictures: drawn by pass and index alone, inside the picture, mirrored where asked."""

import numpy as np
import pytest
import torch
from PIL import Image

from laco_export.models import checkpoint
from laco_training.data import DrawSampler, PictureCollator, PictureDataset, PixelEncoder, open_pictures
from laco_training.data.picture_dataset import ASPECT, random_box


@pytest.fixture(scope="module")
def processor(tiny_checkpoint):
    return checkpoint.load(tiny_checkpoint).processor


@pytest.fixture
def folder(tmp_path):
    ramp = np.linspace(0, 255, 100, dtype=np.uint8)
    for index in range(6):
        pixels = np.stack(
            [np.tile(ramp, (80, 1)), np.tile(ramp[:80, None], (1, 100)), np.full((80, 100), 40 * index)], -1
        )
        Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / f"{index}.png")
    return tmp_path


def dataset(folder, processor, *, seed=0, **options):
    parts, root = open_pictures(folder)
    return PictureDataset(parts, root, PixelEncoder(processor, **options), seed=seed)


def test_boxes_cover_the_asked_share_of_a_picture():
    random = np.random.default_rng(0)
    boxes = np.array([random_box(640, 480, random, 0.25) for _ in range(2000)])
    across, down = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    shares = across * down / (640 * 480)
    assert boxes.min() >= 0 and boxes[:, 2].max() <= 640 and boxes[:, 3].max() <= 480
    assert 0.245 < shares.min() < 0.26 and shares.max() > 0.9 and (across / down).max() <= ASPECT * 1.01
    assert (across / down).min() >= 0.99 / ASPECT
    assert random_box(1000, 3, random, 0.9) == (0, 0, 1000, 3)  # no box of such a shape has that area


def test_a_draw_gives_the_same_part_and_another_pass_another(folder, processor):
    data = dataset(folder, processor, least_area=0.25)
    first = data[2]["pixel_values"]
    assert first.shape == (1, 3, 56, 56) and torch.equal(
        dataset(folder, processor, least_area=0.25)[2]["pixel_values"], first
    )
    assert not torch.equal(data[2 + 6]["pixel_values"], first)
    assert torch.equal(data[2 + 6]["pixel_values"][0, 2], first[0, 2])  # blue, one value, tells the picture
    assert not torch.equal(dataset(folder, processor, least_area=0.25, seed=1)[2]["pixel_values"], first)


def test_whole_pictures_are_as_the_processor_makes_them(folder, processor):
    whole = dataset(folder, processor)
    expected = processor.image_processor(Image.open(folder / "3.png"), return_tensors="pt")["pixel_values"]
    assert torch.equal(whole[3]["pixel_values"], expected) and torch.equal(whole[9]["pixel_values"], expected)


def test_every_other_picture_is_mirrored(folder, processor):
    data = dataset(folder, processor, flips=True)
    red = [data[draw]["pixel_values"][0, 0, 28] for draw in range(60)]
    mirrored = sum(bool(row[0] > row[-1]) for row in red)
    assert 18 < mirrored < 42


def test_one_of_several_pictures_is_drawn(folder, processor, make_turns):
    import json

    entries = [{"id": "a", "image": ["0.png", "5.png"], "conversations": make_turns("a", "b")}]
    (folder / "data.json").write_text(json.dumps(entries))
    parts, root = open_pictures(folder / "data.json")
    data = PictureDataset(parts, root, PixelEncoder(processor))
    assert len({data[draw]["pixel_values"][0, 2, 0, 0].item() for draw in range(12)}) == 2


def test_a_pass_takes_each_picture_at_most_once_and_passes_differ(folder, processor):
    sampler = DrawSampler(dataset(folder, processor), global_batch_size=3, seed=0)
    passes = []
    for number in (0, 1, 0):
        sampler.set_epoch(number)
        passes.append(list(sampler))
    assert passes[0] == passes[2]
    assert sorted(passes[0]) == list(range(6)) and sorted(passes[1]) == list(range(6, 12))
    assert [draw - 6 for draw in passes[1]] != passes[0]


def test_a_broken_picture_is_noted_and_another_stands_in_its_place(folder, processor):
    (folder / "1.png").write_bytes(b"no picture")
    data = dataset(folder, processor)
    sample = data[1]
    assert [note.id for note in sample["notes"].broken] == ["1.png"] and sample["notes"].complete
    batch = PictureCollator()([data[0], sample])
    assert batch["pixel_values"].shape == (2, 3, 56, 56) and len(batch["notes"].broken) == 1
    for path in folder.glob("*.png"):
        path.write_bytes(b"")
    assert PictureCollator()([data[0]]).keys() == {"notes"}
