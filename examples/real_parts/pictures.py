"""Stamps of a drawing program as pictures with questions in LLaVA's JSON, split once and for all.

    images/animals/birds/owl.png …   RGB, square, at most 448 pixels
    train.json, heldout.json         two questions a picture: its noun and its kind
    split.json                       seed, held-out pictures, and what was left out and why

The split is by picture: names ordered by the SHA-256 of seed and name, the first 60 are held out. No two pictures have
the same pixels, so none that is held out is trained on under another name.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from laco_export import atomic

from .archives import debian_files
from .captions import kind_of, noun_of, noun_phrase
from .packages import PackageError

SEED, HELD_OUT = 0, 60
LONGEST_SIDE, SHORTEST_SIDE = 448, 40  # pixels; a stamp whose longer side is below 40 is hardly seen at 224

_STAMPS = "usr/share/tuxpaint/stamps/"
_COPYRIGHT = "usr/share/doc/tuxpaint-stamps-default/copyright"
_LEFT_OUT = ("symbols/", "seasonal/hanukkah/")  # letters, coins and candles in numbers: not things to name
_OVERLAY = "vehicles/emergency/sedan_police"  # emblems to be drawn over another stamp

_WHITE, _GREY_BLUE = (255, 255, 255), (176, 188, 200)
_FAINT = 60  # mean distance from white, of 255, below which a stamp would be lost on white: a ghost, a white flag

NOUN_QUESTIONS = ("What is this?", "What is shown?", "What can you see?", "Name what is in the picture.")
KIND_QUESTIONS = (
    "What kind of thing is it?",
    "Which kind of thing is this?",
    "Is it an animal, food, a plant, a vehicle, a building or something else?",
)
KIND_ANSWERS = {
    "animal": "An animal.",
    "food": "Food.",
    "plant": "A plant.",
    "vehicle": "A vehicle.",
    "building": "A building.",
    "other": "Something else.",
}


@dataclass(frozen=True)
class Stamp:
    """One picture that is kept: its name without suffix (``animals/birds/owl``) and what it shows (``an owl``)."""

    name: str
    phrase: str


def make_pictures(packages: list[Path], folder: Path) -> None:
    """Write the pictures, both JSON files and the split of the stamps' package."""
    files = dict(debian_files(packages[0], lambda name: name.startswith(_STAMPS) or name == _COPYRIGHT))
    stamps, left_out = write_stamps({n.removeprefix(_STAMPS): c for n, c in files.items() if n != _COPYRIGHT}, folder)
    held_out = held_out_names(stamp.name for stamp in stamps)
    for file_name, is_held_out in (("train.json", False), ("heldout.json", True)):
        samples = [
            sample for stamp in stamps if (stamp.name in held_out) == is_held_out for sample in samples_of(stamp)
        ]
        atomic.write_json(folder / file_name, samples)
    split = {"seed": SEED, "pictures": len(stamps), "held_out": sorted(held_out), "left_out": left_out}
    atomic.write_json(folder / "split.json", split)
    (folder / "COPYRIGHT").write_bytes(files[_COPYRIGHT])


def write_stamps(files: Mapping[str, bytes], folder: Path) -> tuple[list[Stamp], dict[str, str]]:
    """Write ``folder/images`` of the stamps' ``.png`` and ``.txt`` files.

    Returns:
        the stamps that were written, by name, and ``name → reason`` of those that were not.
    """
    stamps: list[Stamp] = []
    left_out: dict[str, str] = {}
    name_of_pixels: dict[str, str] = {}
    for path in sorted(name for name in files if name.endswith(".png") and not name.startswith(_LEFT_OUT)):
        name = path.removesuffix(".png")
        caption = files.get(f"{name}.txt", b"").decode("utf-8", "replace").partition("\n")[0].strip()
        phrase = noun_phrase(name, caption)
        picture = flattened(files[path])
        pixels = hashlib.sha256(repr(picture.size).encode() + picture.tobytes()).hexdigest()
        if name == _OVERLAY:
            left_out[name] = "an overlay for another stamp"
        elif phrase is None:
            left_out[name] = "no caption that names it"
        elif max(picture.size) < SHORTEST_SIDE:
            left_out[name] = f"smaller than {SHORTEST_SIDE} pixels"
        elif pixels in name_of_pixels:
            left_out[name] = f"the same pixels as {name_of_pixels[pixels]}"
        else:
            name_of_pixels[pixels] = name
            stamps.append(Stamp(name, phrase))
            file = folder / "images" / path
            file.parent.mkdir(parents=True, exist_ok=True)
            picture.save(file)
    return stamps, left_out


def flattened(content: bytes):
    """A PNG with transparency as an RGB square of at most 448 pixels: in the middle of white, or of grey-blue.

    Square, so that a processor that squashes its pictures (InternViT's) keeps their proportions.
    """
    from PIL import Image

    with Image.open(io.BytesIO(content)) as file:
        stamp = file.convert("RGBA")
    side = max(stamp.size)
    square = Image.new("RGB", (side, side), _background(stamp))
    square.paste(stamp, ((side - stamp.width) // 2, (side - stamp.height) // 2), mask=stamp)
    if side > LONGEST_SIDE:
        square = square.resize((LONGEST_SIDE, LONGEST_SIDE), Image.Resampling.LANCZOS)
    return square


def _background(stamp) -> tuple[int, int, int]:
    import numpy as np

    pixels = np.asarray(stamp, dtype=np.float32)
    solid = pixels[pixels[..., 3] > 127][:, :3]
    distance = (255 - solid).max(axis=1).mean() if len(solid) else 255
    return _GREY_BLUE if distance < _FAINT else _WHITE


def held_out_names(names: Iterable[str], *, count: int = HELD_OUT, seed: int = SEED) -> set[str]:
    """The ``count`` names that come first by the SHA-256 of seed and name: the same on any machine.

    Raises:
        PackageError: there are no more names than that, so that none would be left for training.
    """
    ordered = sorted(names, key=lambda name: hashlib.sha256(f"{seed} {name}".encode()).digest())
    if len(ordered) <= count:
        raise PackageError("there are too few pictures to hold some out", given=len(ordered), allowed=f"over {count}")
    return set(ordered[:count])


def samples_of(stamp: Stamp) -> list[dict]:
    """A picture's two samples: its noun and its kind, each asked in a wording that its name chooses."""
    kind = kind_of(stamp.name)
    answers = {
        "noun": (NOUN_QUESTIONS, f"{stamp.phrase[:1].upper()}{stamp.phrase[1:]}."),
        "kind": (KIND_QUESTIONS, KIND_ANSWERS[kind]),
    }
    return [
        {
            "id": f"{stamp.name}/{asked}",
            "image": f"images/{stamp.name}.png",
            "conversations": [
                {"from": "human", "value": f"<image>\n{_wording(questions, f'{stamp.name}/{asked}')}"},
                {"from": "gpt", "value": answer},
            ],
            "asked": asked,
            "noun": noun_of(stamp.phrase),
            "kind": kind,
        }
        for asked, (questions, answer) in answers.items()
    ]


def _wording(questions: tuple[str, ...], sample_id: str) -> str:
    return questions[hashlib.sha256(sample_id.encode()).digest()[0] % len(questions)]
