"""Greedy answers of a PyTorch LaCo model to held-out questions, and how many are right.

The same questions are asked again with the pictures shuffled within each kind: a model that looks loses what one that
guesses keeps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING

import torch

from laco_export.conversation import render
from laco_export.preprocessing import load_image

from .data import DataError, image_names, read_entries, turns_of

if TYPE_CHECKING:
    from laco_export.models import LacoForConditionalGeneration
    from laco_export.models.processing import LacoProcessor

_MAX_NEW_TOKENS = 16  # the longest held-out answer has six
_BATCH = 50


@dataclass(frozen=True)
class ScoredAnswer:
    """One held-out question with the model's answer beside the right one; ``kind`` is empty where the file has none."""

    id: str
    kind: str
    images: tuple[str, ...]
    question: str
    answer: str
    truth: str

    @property
    def right(self) -> bool:
        return self.answer == self.truth


@dataclass(frozen=True)
class Evaluation:
    """Answers with the right pictures and with shuffled ones, both in the file's order."""

    answers: tuple[ScoredAnswer, ...]
    shuffled: tuple[ScoredAnswer, ...]

    @property
    def accuracy(self) -> float:
        return accuracy(self.answers)

    def by_kind(self) -> dict[str, tuple[float, float]]:
        """Each kind's accuracy with the right pictures and with shuffled ones."""
        kinds = sorted({answer.kind for answer in self.answers})
        return {
            kind: tuple(accuracy([a for a in answers if a.kind == kind]) for answers in (self.answers, self.shuffled))
            for kind in kinds
        }

    def to_dict(self) -> dict:
        """For ``training.json``: overall and per kind, as shares of 1."""
        kinds = {kind: {"accuracy": right, "shuffled": guessed} for kind, (right, guessed) in self.by_kind().items()}
        return {"accuracy": self.accuracy, "shuffled": accuracy(self.shuffled), "kinds": kinds}


def accuracy(answers: Sequence[ScoredAnswer]) -> float:
    """Share of exact matches."""
    return sum(answer.right for answer in answers) / len(answers)


def evaluate(model: LacoForConditionalGeneration, processor: LacoProcessor, data_file: Path) -> Evaluation:
    """Ask every question of a LLaVA-style JSON file (its first turn) with its pictures and with others'.

    Args:
        data_file: pictures are found relative to its folder; ``kind`` of a sample names its kind.
    """
    entries = read_entries(data_file)
    pictures = [tuple(image_names(entry)) for entry in entries]
    own = answer_questions(model, processor, data_file.parent, entries, pictures)
    others = answer_questions(model, processor, data_file.parent, entries, shuffle_pictures(entries))
    return Evaluation(tuple(own), tuple(others))


def shuffle_pictures(entries: Sequence[dict]) -> list[tuple[str, ...]]:
    """For each sample the pictures of another sample of its kind: a random cycle through each kind.

    Raises:
        DataError: a kind has only one sample.
    """
    by_kind: dict[str, list[int]] = {}
    for index, entry in enumerate(entries):
        by_kind.setdefault(entry.get("kind", ""), []).append(index)
    shuffled: list[tuple[str, ...]] = [()] * len(entries)
    for kind, members in by_kind.items():
        if len(members) < 2:
            raise DataError(f"kind '{kind}' has a single question: its picture cannot be shuffled")
        Random(f"0 {kind}").shuffle(members)  # the same for every checkpoint: they can be compared
        for index, other in zip(members, members[1:] + members[:1], strict=True):
            shuffled[index] = tuple(image_names(entries[other]))
    return shuffled


@torch.inference_mode()
def answer_questions(
    model: LacoForConditionalGeneration,
    processor: LacoProcessor,
    folder: Path,
    entries: Sequence[dict],
    pictures: Sequence[tuple[str, ...]],
) -> list[ScoredAnswer]:
    """Greedy answers to the first question of each sample, about the given pictures.

    Prompts of equal length are answered together, so no padding can change an answer.
    """
    turns = [turns_of(entry)[:2] for entry in entries]
    chat_format = processor.chat_format
    prompts = [render(pair[:1], add_generation_prompt=True, chat_format=chat_format) for pair in turns]
    lengths = [len(processor.tokenizer(prompt)["input_ids"]) + 1000 * len(p) for prompt, p in zip(prompts, pictures)]
    answers: list[str] = [""] * len(entries)
    for length in sorted(set(lengths)):
        alike = [index for index, own in enumerate(lengths) if own == length]
        for start in range(0, len(alike), _BATCH):
            group = alike[start : start + _BATCH]
            images = [load_image(folder / name) for index in group for name in pictures[index]]
            texts = _generate(model, processor, images, [prompts[index] for index in group])
            for index, text in zip(group, texts, strict=True):
                answers[index] = text
    return [
        ScoredAnswer(
            str(entry.get("id", index)),
            entry.get("kind", ""),
            pictures[index],
            pair[0][1].replace("<image>", "").strip(),
            answers[index],
            pair[1][1],
        )
        for index, (entry, pair) in enumerate(zip(entries, turns, strict=True))
    ]


def _generate(model, processor, images: list, prompts: list[str]) -> list[str]:
    inputs = processor(images=images or None, text=prompts, return_tensors="pt").to(model.device)
    tokens = model.generate(**inputs, do_sample=False, max_new_tokens=_MAX_NEW_TOKENS)
    if tokens.shape[1] > inputs["input_ids"].shape[1]:  # some transformers versions return the prompt too
        tokens = tokens[:, inputs["input_ids"].shape[1] :]
    return [text.strip() for text in processor.tokenizer.batch_decode(tokens, skip_special_tokens=True)]
