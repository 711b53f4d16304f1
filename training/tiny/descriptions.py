"""Words that stand in for a picture: what the small LLM is pretrained on before it sees any.

A description gives each place of the merged token grid, row by row, the words for what is there: ``K blue second``,
``circle red top left 1`` (one shape in all), ``bar green 4 highest``, or ``nothing``. The LLM reads a place as one
position that holds the sum of its words' embeddings, so it learns where to look and how to answer in the very form in
which the projector will hand it a picture.
"""

from __future__ import annotations

from random import Random

from .conversations import CAPTION_PROMPT, questions_of
from .scene import NOTHING, SIZE, Region, Sample

CELLS = 4  # per side: the 8x8 patches after the merge
_ORDINALS = ("first", "second", "third")
_LEAST_COVER = 0.12  # of a cell, for its thing to be named
_CAPTION_SHARE = 0.25


def text_entry(id: str, sample: Sample, rng: Random) -> dict:
    """A conversation about ``sample`` without its picture: ``cells`` replaces it; a caption or questions."""
    turns = questions_of(sample.questions, rng)
    caption = not sample.questions or rng.random() < _CAPTION_SHARE
    if caption:
        turns = [(CAPTION_PROMPT, sample.caption)]
    conversations = []
    for index, (question, answer) in enumerate(turns):
        conversations.append({"from": "human", "value": ("<image>\n" if index == 0 else "") + question})
        conversations.append({"from": "gpt", "value": answer})
    return {"id": id, "cells": describe(sample.regions), "plain": caption, "conversations": conversations}


def describe(regions: tuple[Region, ...]) -> list[list[str]]:
    """The phrases of each of the CELLS x CELLS places, row by row."""
    edge = SIZE / CELLS
    phrases = []
    for row in range(CELLS):
        for column in range(CELLS):
            cover = [_overlap(region, column * edge, row * edge, edge) for region in regions]
            best = max(range(len(regions)), key=cover.__getitem__)
            seen = cover[best] >= _LEAST_COVER * edge * edge
            phrases.append(phrases_of(regions[best]) if seen else [NOTHING])
    return phrases


def phrases_of(region: Region) -> list[str]:
    """A region's labels as they are spoken: with a space before as questions name them, without as answers begin."""
    labels = region.labels
    thing, colour = str(labels["thing"]), str(labels["colour"])
    if thing == "bar":
        rank = [] if labels["rank"] == "between" else [f" {labels['rank']}"]
        return [thing, colour, f" {colour}", str(labels["number"]), *rank]
    if "total" in labels:
        place = [labels["place"]] if "place" in labels else []
        return [f" {thing}", colour, *place, str(labels["total"])]
    return [thing, colour, _ORDINALS[int(labels["number"]) - 1]]


def _overlap(region: Region, left: float, top: float, edge: float) -> float:
    across = min(region.box[2], left + edge) - max(region.box[0], left)
    down = min(region.box[3], top + edge) - max(region.box[1], top)
    return max(0.0, across) * max(0.0, down)
