"""Text that stands in for a picture: what the small LLM is pretrained on before it sees any.

A description names each thing with its labels, in the order in which the encoder's tokens come (row by row), as
`P red 1 top; L red 2 top.` A question about it is answered by looking things up in the context, which is what the LLM
will do with the picture's embeddings.
"""

from __future__ import annotations

from random import Random

from .conversations import CAPTION_PROMPT, QUESTIONS_PER_SAMPLE
from .scene import SIZE, Region, Sample

_ROWS, _COLUMNS = ("top", "", "bottom"), ("left", "", "right")


def text_entry(id: str, sample: Sample, rng: Random) -> dict:
    """A conversation without pictures about `sample`: its description, then a caption or questions."""
    turns = [(question.text, question.answer) for question in sample.questions]
    turns = rng.sample(turns, min(QUESTIONS_PER_SAMPLE, len(turns)))
    if rng.random() < 0.3:
        turns = [(CAPTION_PROMPT, sample.caption), *turns[:1]]
    conversations = []
    for index, (question, answer) in enumerate(turns):
        before = f"{describe(sample.regions)}\n" if index == 0 else ""
        conversations.append({"from": "human", "value": before + question})
        conversations.append({"from": "gpt", "value": answer})
    return {"id": id, "conversations": conversations}


def describe(regions: tuple[Region, ...]) -> str:
    """All regions but bars (their letters carry the same labels), row by row."""
    named = [region for region in regions if region.labels["thing"] != "bar"]
    return "; ".join(_describe_region(region) for region in named) + "."


def _describe_region(region: Region) -> str:
    labels = region.labels
    words = [labels["thing"], labels["colour"], labels["number"], _place(region), labels.get("rank", "")]
    return " ".join(str(word) for word in words if word != "")


def _place(region: Region) -> str:
    left, top, right, bottom = region.box
    row = min(2, int((top + bottom) / 2 / (SIZE / 3)))
    column = min(2, int((left + right) / 2 / (SIZE / 3)))
    return f"{_ROWS[row]} {_COLUMNS[column]}".strip() or "centre"
