"""Samples as LLaVA-style JSON entries: ``{id, image, conversations: [{from, value}, …], …}``.

One picture gives ``image`` as a string, two as a list; each picture is marked ``<image>`` in the first human turn.
Extra keys (``kind``) are for evaluation; the trainer ignores them.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from laco_export.conversation import IMAGE_MARK

from .scene import DrawnQuestion, Region
from .writing import noun_of

CAPTION_PROMPT = "Describe the picture."
QUESTIONS_PER_SAMPLE = 3  # turns in a conversation: cheap supervision, since the picture is encoded once
_ORDINALS = ("first", "second")


@dataclass(frozen=True)
class Entry:
    """A picture on disk and what can be said about it: a :class:`.scene.Sample` without its pixels."""

    id: str
    image: str
    caption: str
    questions: tuple[DrawnQuestion, ...]
    regions: tuple[Region, ...]
    text: str


def caption_entry(entry: Entry) -> dict:
    """Stage 1: the caption is the whole answer."""
    return _entry(entry.id, entry.image, [(CAPTION_PROMPT, entry.caption)])


def caption_and_questions_entry(entry: Entry, rng: Random) -> dict:
    """Stage 1.5: a caption, then questions."""
    turns = [(CAPTION_PROMPT, entry.caption), *questions_of(entry.questions, rng)]
    return _entry(entry.id, entry.image, turns[:QUESTIONS_PER_SAMPLE])


def questions_entry(entry: Entry, rng: Random) -> dict:
    """Stage 2, one picture: questions."""
    return _entry(entry.id, entry.image, questions_of(entry.questions, rng))


def held_out_entry(entry: Entry, question: DrawnQuestion) -> dict:
    """One question of a named kind about a picture of its own."""
    return {**_entry(entry.id, entry.image, [(question.text, question.answer)]), "kind": question.kind}


def pair_entry(first: Entry, second: Entry, rng: Random) -> dict:
    """Stage 2, two pictures: what the first or the second shows, and which of them shows something."""
    turns = pair_questions((first, second), rng)
    return _entry(f"{first.id}+{second.id}", [first.image, second.image], turns[:QUESTIONS_PER_SAMPLE])


def pair_questions(pair: tuple[Entry, Entry], rng: Random) -> list[tuple[str, str]]:
    """Questions about two pictures that have one right answer, in random order; never none."""
    turns = []
    for which, entry, other in zip(_ORDINALS, pair, pair[::-1], strict=True):
        if entry.text:
            noun = noun_of(entry.text)
            turns.append((f"What {noun} is written in the {which} picture?", entry.text))
            if entry.text != other.text:
                turns.append((f"Which picture shows the {noun} {entry.text}?", which))
        for question in entry.questions:
            if question.kind == "shape-count":
                turns.append((f"How many shapes are in the {which} picture?", question.answer))
            elif question.kind == "bar-chart" and "est" in question.text:
                turns.append((f"{question.text[:-1]} in the {which} picture?", question.answer))
    rng.shuffle(turns)
    return turns or [(CAPTION_PROMPT, f"{pair[0].caption} {pair[1].caption}")]


def questions_of(questions: tuple[DrawnQuestion, ...], rng: Random) -> list[tuple[str, str]]:
    """At most :data:`QUESTIONS_PER_SAMPLE` of them, as (question, answer)."""
    chosen = rng.sample(questions, min(QUESTIONS_PER_SAMPLE, len(questions)))
    return [(question.text, question.answer) for question in chosen]


def _entry(id: str, image: str | list[str], turns: list[tuple[str, str]]) -> dict:
    marks = f"{IMAGE_MARK}\n" * (1 if isinstance(image, str) else len(image))
    conversations = []
    for index, (question, answer) in enumerate(turns):
        conversations.append({"from": "human", "value": (marks if index == 0 else "") + question})
        conversations.append({"from": "gpt", "value": answer})
    return {"id": id, "image": image, "conversations": conversations}
