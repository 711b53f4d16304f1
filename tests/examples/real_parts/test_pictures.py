"""Stamps become pictures with questions; the split is the same everywhere and shares no picture."""

import hashlib
import io
import json

import numpy as np
import pytest
from PIL import Image
from real_parts.captions import KIND_OF_FOLDER, KINDS, NOUN_PHRASES
from real_parts.packages import PackageError
from real_parts.pictures import (
    HELD_OUT,
    LONGEST_SIDE,
    Stamp,
    flattened,
    held_out_names,
    make_pictures,
    samples_of,
    write_stamps,
)


def png(colour, size=(60, 40)):
    buffer = io.BytesIO()
    Image.new("RGBA", size, colour).save(buffer, "PNG")
    return buffer.getvalue()


def stamps(count):
    """PNG and caption of ``count`` stamps of different colours."""
    files = {f"animals/{index:03}.png": png((index, 0, 0, 255)) for index in range(count)}
    return files | {f"animals/{index:03}.txt": b"A cat." for index in range(count)}


def test_a_stamp_stands_in_the_middle_of_a_white_square():
    pixels = np.asarray(flattened(png((200, 0, 0, 255))))
    assert pixels.shape == (60, 60, 3)
    assert (pixels[10:50] == (200, 0, 0)).all() and (pixels[:10] == 255).all() and (pixels[50:] == 255).all()


def test_transparency_shows_the_background():
    assert (np.asarray(flattened(png((0, 0, 0, 0), (8, 8)))) == 255).all()


def test_a_white_stamp_is_seen():
    pixels = np.asarray(flattened(png((255, 255, 255, 255))))
    assert (pixels[0] != 255).all() and (pixels[30] == 255).all()


def test_a_large_stamp_is_made_smaller():
    assert flattened(png((9, 9, 9, 255), (2000, 100))).size == (LONGEST_SIDE, LONGEST_SIDE)


def test_what_is_left_out_is_said(tmp_path):
    files = {
        "animals/cat.png": png((1, 2, 3, 255)),
        "animals/cat.txt": b"A cat.\nlocales follow",
        "people/cat.png": png((1, 2, 3, 255)),
        "people/cat.txt": b"A cat.",
        "animals/mite.png": png((5, 5, 5, 255), (20, 20)),
        "animals/mite.txt": b"A mite.",
        "animals/cat_mirror.png": png((7, 7, 7, 255)),
        "symbols/a.png": png((8, 8, 8, 255)),
        "vehicles/emergency/sedan_police.png": png((9, 9, 9, 255)),
        "vehicles/emergency/sedan_police.txt": b"A police car.",
    }
    written, left_out = write_stamps(files, tmp_path)
    assert written == [Stamp("animals/cat", "a cat")]
    assert left_out == {
        "animals/cat_mirror": "no caption that names it",
        "animals/mite": "smaller than 40 pixels",
        "people/cat": "the same pixels as animals/cat",
        "vehicles/emergency/sedan_police": "an overlay for another stamp",
    }
    assert [path.name for path in tmp_path.rglob("*.png")] == ["cat.png"]


def test_the_split_is_the_same_in_any_order_and_on_any_machine():
    names = [f"animals/{index}" for index in range(20)]
    held_out = held_out_names(names, count=3)
    assert held_out == held_out_names(reversed(names), count=3) == {"animals/0", "animals/11", "animals/12"}
    assert held_out != held_out_names(names, count=3, seed=1)


def test_too_few_pictures_to_hold_some_out(tmp_path, make_deb):
    with pytest.raises(PackageError, match="too few pictures"):
        held_out_names(["a", "b"], count=2)


def test_two_questions_a_picture():
    noun, kind = samples_of(Stamp("town/houses/cartoon/inn", "an inn"))
    assert noun["conversations"][0]["value"].startswith("<image>\n")
    assert (noun["conversations"][1]["value"], kind["conversations"][1]["value"]) == ("An inn.", "A building.")
    assert {noun["image"], kind["image"]} == {"images/town/houses/cartoon/inn.png"}
    assert (noun["noun"], noun["kind"], noun["asked"], kind["asked"]) == ("inn", "building", "noun", "kind")


def test_a_packages_pictures(tmp_path, make_deb):
    stored = {f"usr/share/tuxpaint/stamps/{name}": content for name, content in stamps(HELD_OUT + 5).items()}
    deb = make_deb(stored | {"usr/share/doc/tuxpaint-stamps-default/copyright": b"GPL-2"})
    make_pictures([deb], tmp_path / "pictures")
    train, held_out = (
        json.loads((tmp_path / "pictures" / f"{name}.json").read_text()) for name in ("train", "heldout")
    )
    split = json.loads((tmp_path / "pictures" / "split.json").read_text())
    assert (len(train), len(held_out)) == (10, 2 * HELD_OUT)
    assert (split["seed"], split["pictures"], split["left_out"]) == (0, HELD_OUT + 5, {})
    assert {sample["id"].rpartition("/")[0] for sample in held_out} == set(split["held_out"])
    assert (tmp_path / "pictures" / "COPYRIGHT").read_text() == "GPL-2"


@pytest.mark.real
def test_no_picture_is_both_trained_on_and_held_out(real_part):
    folder = real_part("pictures")
    train, held_out = (json.loads((folder / f"{name}.json").read_text()) for name in ("train", "heldout"))

    def pixels_of(samples):
        digests = set()
        for name in {sample["image"] for sample in samples}:
            with Image.open(folder / name) as picture:
                assert picture.mode == "RGB" and max(picture.size) <= LONGEST_SIDE
                digests.add(hashlib.sha256(picture.tobytes()).hexdigest())
        return digests

    trained, held = pixels_of(train), pixels_of(held_out)
    assert len(held) == HELD_OUT and len(trained) == len(train) / 2 > 400
    assert not trained & held


@pytest.mark.real
def test_the_training_code_reads_the_pictures(real_part):
    from laco_training.data import image_names, read_entries

    folder = real_part("pictures")
    samples = read_entries(folder / "train.json") + read_entries(folder / "heldout.json")
    assert all((folder / image_names(sample)[0]).is_file() for sample in samples)
    assert {sample["kind"] for sample in samples} == set(KINDS)


@pytest.mark.real
def test_the_lists_by_hand_fit_the_package(real_part):
    folder = real_part("pictures")
    split = json.loads((folder / "split.json").read_text())
    names = {path.relative_to(folder / "images").with_suffix("").as_posix() for path in folder.rglob("*.png")}
    names |= set(split["left_out"])
    folders = {name.rsplit("/", depth)[0] for name in names for depth in range(5)}
    assert set(NOUN_PHRASES) <= names
    assert set(KIND_OF_FOLDER) <= names | folders
