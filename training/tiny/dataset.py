"""The tiny recipe's data on disk: ordinary PNG files and LLaVA-style JSON.

::

    pictures/train/00000.png …    pictures/pages/00000.png …    pictures/heldout/000.png …
    regions.json          stage 0, encoder: what stands where in each page and training picture
    texts.json            stage 0, LLM: described pictures, captions and questions in words alone
    captions.json         stage 1: one caption a picture
    recaptions.json       stage 1.5: a caption, then questions
    single-image.json     stage 2-si: questions
    one-vision.json       stage 2-ov: questions about one picture and about two
    heldout.json          questions of every kind in HELD_OUT_KINDS, equally many, each about a picture of its own

No held-out picture, word or number occurs in training (:mod:`.texts` splits the words; a training picture that happens
to equal a held-out one is drawn again). Sample i depends on the seed and on i alone.
"""

from __future__ import annotations

import hashlib
import io
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from itertools import count
from pathlib import Path
from random import Random

from laco_export.atomic import write_json
from laco_export.errors import ConfigError

from .charts import draw_chart
from .conversations import (
    Entry,
    caption_and_questions_entry,
    caption_entry,
    held_out_entry,
    pair_entry,
    questions_entry,
)
from .descriptions import text_entry
from .scene import Sample
from .shapes import draw_shapes
from .texts import random_text
from .writing import PAGE_ROWS, draw_page, draw_writing

HELD_OUT_KINDS = ("shape-colour", "shape-count", "shape-position", "digits", "words", "bar-chart")
_FAMILY_OF_KIND = {"digits": "writing", "words": "writing", "bar-chart": "charts"}  # the others: shapes
DRAWN_FAMILIES = ("shapes", "writing", "charts")
_FAMILY_WEIGHTS = (4, 4, 3)
_PAIR_SHARE = 0.3  # of the one-vision samples
_PAGE_SHARES = {"texts": 0.25, "captions": 0.6, "recaptions": 0.4}  # of the samples: pages of writing, to be read out


@dataclass(frozen=True)
class DataSizes:
    """How many samples of each sort are drawn; the conversations of all stages are about the same ``pictures``.

    ``pages`` are pictures full of writing, for the encoder and for captions: reading takes longest to learn.
    """

    pages: int
    pictures: int
    texts: int
    captions: int
    recaptions: int
    single_image: int
    one_vision: int
    held_out: int = 300

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise ConfigError(f"data.{field.name} must be at least 1", given=getattr(self, field.name))
        if self.held_out % len(HELD_OUT_KINDS):
            raise ConfigError(
                "data.held_out must be the same for every kind",
                given=self.held_out,
                allowed=f"a multiple of {len(HELD_OUT_KINDS)}",
            )

    def samples_in(self, data_file: str) -> int:
        """How many samples one of the JSON files will hold.

        Raises:
            ConfigError: no such file is drawn.
        """
        sizes = {
            "captions.json": self.captions,
            "recaptions.json": self.recaptions,
            "single-image.json": self.single_image,
            "one-vision.json": self.one_vision,
        }
        if data_file not in sizes:
            raise ConfigError(f"the tiny recipe draws no data file '{data_file}'", allowed=", ".join(sizes))
        return sizes[data_file]


def write_data(
    folder: Path, sizes: DataSizes, *, seed: int, advance: Callable[[int], None] = lambda steps: None
) -> None:
    """Draw everything into ``folder``; ``advance(n)`` is called each time n more pictures are done."""
    for name in ("train", "pages", "heldout"):
        (folder / "pictures" / name).mkdir(parents=True)
    held_out, hashes = _write_held_out(folder, sizes.held_out, seed)
    write_json(folder / "heldout.json", held_out)
    advance(sizes.held_out)
    pages, entries = [], []
    for index in range(sizes.pages):
        pages.append(_write_picture(folder, "pages", _draw_page, index, seed, hashes))
        advance(1)
    for index in range(sizes.pictures):
        entries.append(_write_picture(folder, "train", _draw_any, index, seed, hashes))
        advance(1)
    write_json(folder / "regions.json", [_regions(entry) for entry in pages + entries])
    _write_conversations(folder, entries, pages, sizes, Random(f"{seed} conversations"))
    write_json(folder / "texts.json", [_text_sample(index, seed) for index in range(sizes.texts)])


def _write_conversations(folder: Path, entries: list[Entry], pages: list[Entry], sizes: DataSizes, rng: Random) -> None:
    """The files of the stages 1 to 2-ov."""
    captions = [caption_entry(e) for e in _with_pages(entries, pages, "captions", sizes.captions, rng)]
    write_json(folder / "captions.json", captions)
    mixed = _with_pages(entries, pages, "recaptions", sizes.recaptions, rng)
    write_json(folder / "recaptions.json", [caption_and_questions_entry(e, rng) for e in mixed])
    single = [questions_entry(e, rng) for e in _take(entries, sizes.single_image, rng)]
    write_json(folder / "single-image.json", single)
    write_json(folder / "one-vision.json", list(_one_vision(entries, sizes.one_vision, rng)))


def draw(family: str, rng: Random, *, held_out: bool = False) -> Sample:
    """One sample of a family: shapes, writing or charts."""
    if family == "shapes":
        return draw_shapes(rng)
    if family == "charts":
        return draw_chart(rng)
    return draw_writing(rng, random_text(rng, held_out=held_out))


def _write_held_out(folder: Path, number: int, seed: int) -> tuple[list[dict], set[str]]:
    """Equally many questions of each kind, the rarest answer so far first; and the hashes of their pictures."""
    entries: list[dict] = []
    hashes: set[str] = set()
    for kind in HELD_OUT_KINDS:
        answers: Counter[str] = Counter()
        for attempt in count():
            if sum(answers.values()) == number // len(HELD_OUT_KINDS):
                break
            rng = Random(f"{seed} heldout {kind} {attempt}")
            sample = draw(_FAMILY_OF_KIND.get(kind, "shapes"), rng, held_out=True)
            questions = [question for question in sample.questions if question.kind == kind]
            data, digest = _encode(sample)
            if not questions or digest in hashes:
                continue
            question = min(questions, key=lambda question: answers[question.answer])
            answers[question.answer] += 1
            hashes.add(digest)
            name = f"{len(entries):03d}"
            entry = _entry(f"heldout-{name}", f"pictures/heldout/{name}.png", sample)
            (folder / entry.image).write_bytes(data)
            entries.append(held_out_entry(entry, question))
    return entries, hashes


def _write_picture(
    folder: Path, split: str, draw_one: Callable[[Random], Sample], index: int, seed: int, taken: set[str]
) -> Entry:
    for attempt in count():
        sample = draw_one(Random(f"{seed} {split} {index} {attempt}"))
        data, digest = _encode(sample)
        if digest not in taken:
            break
    entry = _entry(f"{split}-{index:05d}", f"pictures/{split}/{index:05d}.png", sample)
    (folder / entry.image).write_bytes(data)
    return entry


def _draw_any(rng: Random) -> Sample:
    return draw(rng.choices(DRAWN_FAMILIES, _FAMILY_WEIGHTS)[0], rng)


def _draw_page(rng: Random) -> Sample:
    return draw_page(rng, [random_text(rng, held_out=False) for _ in range(PAGE_ROWS)])


def _regions(entry: Entry) -> dict:
    boxes = [{"box": [round(x, 1) for x in region.box], **region.labels} for region in entry.regions]
    return {"image": entry.image, "regions": boxes}


def _encode(sample: Sample) -> tuple[bytes, str]:
    """The PNG file, and the hash of the picture's pixels."""
    file = io.BytesIO()
    sample.image.save(file, "png", compress_level=1)
    return file.getvalue(), hashlib.sha256(sample.image.tobytes()).hexdigest()


def draw_entry(family: str, rng: Random) -> Entry:
    """A training sample without its picture on disk: what can be said about it."""
    return _entry("", "", draw(family, rng))


def _entry(id: str, image: str, sample: Sample) -> Entry:
    return Entry(id, image, sample.caption, sample.questions, sample.regions, sample.text)


def _take(entries: list[Entry], number: int, rng: Random) -> list[Entry]:
    """``number`` entries in random order, none twice before all have been taken once."""
    taken: list[Entry] = []
    while len(taken) < number:
        taken += rng.sample(entries, min(len(entries), number - len(taken)))
    return taken


def _with_pages(entries: list[Entry], pages: list[Entry], use: str, number: int, rng: Random) -> list[Entry]:
    """``number`` entries in random order, the share of pages that ``use`` wants among them."""
    of_pages = round(_PAGE_SHARES[use] * number)
    taken = _take(pages, of_pages, rng) + _take(entries, number - of_pages, rng)
    rng.shuffle(taken)
    return taken


def _one_vision(entries: list[Entry], number: int, rng: Random) -> Iterator[dict]:
    for entry in _take(entries, number, rng):
        if rng.random() < _PAIR_SHARE:
            yield pair_entry(entry, rng.choice(entries), rng)
        else:
            yield questions_entry(entry, rng)


def _text_sample(index: int, seed: int) -> dict:
    rng = Random(f"{seed} text {index}")
    sample = _draw_page(rng) if rng.random() < _PAGE_SHARES["texts"] else _draw_any(rng)
    return text_entry(f"text-{index:05d}", sample, rng)
