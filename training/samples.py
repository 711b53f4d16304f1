"""LLaVA-style JSON from disk to model inputs, one sample at a time.

    [{"id": …, "image": "a.png" | ["a.png", …], "conversations": [{"from": "human", "value": "<image>\\n…"}, …]}]

Pictures are read when their sample is asked for. The tokens that count for the loss are marked by
`laco_export.conversation.render_with_mask`: the assistant's words and its closing `<|im_end|>`. In the plain form
(stage 1) there is no chat template: the picture, then the caption, which alone counts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from laco_export.conversation import IMAGE_MARK, IMAGE_TOKEN, expand_image_tokens, render_with_mask
from laco_export.errors import LacoError
from laco_export.preprocessing import load_image

if TYPE_CHECKING:
    from laco_export.models.processing import LacoProcessor

IGNORED = -100  # PyTorch's cross entropy takes no loss at these labels
_ROLES = {"human": "user", "gpt": "assistant", "system": "system"}
_CACHED_PIECES = 65_536  # tokenised pieces of text kept: questions and turn markers come again and again


class DataError(LacoError):
    """A data file that is not LLaVA-style JSON, or a sample that cannot be used."""


class ConversationDataset(torch.utils.data.Dataset):
    """Samples of one JSON file as `{input_ids [T], labels [T], pixel_values [num_images, 3, H, W]}`.

    Args:
        path: the JSON file; pictures are found relative to `image_folder`.
        plain: stage 1's form, see the module.
        max_length: longer samples are cut at their end, image tokens included.
    """

    def __init__(
        self, path: Path, image_folder: Path, processor: LacoProcessor, *, plain: bool = False, max_length: int = 8192
    ):
        self.path, self.image_folder, self.plain, self.max_length = path, image_folder, plain, max_length
        self.entries = read_entries(path)
        self.preprocessing = processor.image_processor.preprocessing
        self.tokens_per_image = processor.image_seq_length
        self.tokenizer = processor.tokenizer
        self._tokenize = lru_cache(maxsize=_CACHED_PIECES)(self._tokenize_piece)

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        entry = self.entries[index]
        images = image_names(entry)
        try:
            input_ids, labels = self._tokens(entry, len(images))
            pixels = [self.preprocessing(load_image(self.image_folder / name)) for name in images]
        except (LacoError, KeyError, TypeError) as error:
            raise DataError(
                f"sample {entry.get('id', index)!r} of '{self.path}' cannot be used: {error}",
                todo="correct the sample or take it out of the file",
            ) from None
        sample = {"input_ids": torch.tensor(input_ids), "labels": torch.tensor(labels)}
        if pixels:
            sample["pixel_values"] = torch.from_numpy(np.stack(pixels))  # [num_images, 3, H, W]
        return sample

    def _tokens(self, entry: dict, num_images: int) -> tuple[list[int], list[int]]:
        pieces = plain_pieces(entry) if self.plain else render_with_mask(turns_of(entry))
        marks = sum(text.count(IMAGE_MARK) for text, _ in pieces)
        if marks != num_images:
            raise DataError(f"{marks} {IMAGE_MARK} marks for {num_images} pictures")
        input_ids: list[int] = []
        labels: list[int] = []
        for text, counts in pieces:
            ids = self._tokenize(text)
            input_ids += ids
            labels += ids if counts else [IGNORED] * len(ids)
        image_token = self.tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
        if image_token in input_ids[self.max_length :]:
            raise DataError(f"its {num_images} pictures do not fit into max_length {self.max_length}")
        return input_ids[: self.max_length], labels[: self.max_length]

    def _tokenize_piece(self, text: str) -> list[int]:
        expanded = expand_image_tokens(text, [self.tokens_per_image] * text.count(IMAGE_MARK))
        return self.tokenizer(expanded, add_special_tokens=False)["input_ids"]


class Collator:
    """Samples to one batch, padded at the right; pictures of all samples follow each other in reading order."""

    def __init__(self, pad_token_id: int):
        self.pad_token_id = pad_token_id

    def __call__(self, samples: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
        pad = torch.nn.utils.rnn.pad_sequence
        input_ids = pad([s["input_ids"] for s in samples], batch_first=True, padding_value=self.pad_token_id)  # [B, T]
        labels = pad([s["labels"] for s in samples], batch_first=True, padding_value=IGNORED)  # [B, T]
        mask = pad([torch.ones_like(s["input_ids"]) for s in samples], batch_first=True)  # [B, T]
        batch = {"input_ids": input_ids, "labels": labels, "attention_mask": mask}
        pixels = [s["pixel_values"] for s in samples if "pixel_values" in s]
        if pixels:
            batch["pixel_values"] = torch.cat(pixels)  # [num_images, 3, H, W]
        return batch


def read_entries(path: Path) -> list[dict]:
    """The samples of a LLaVA-style JSON file.

    Raises:
        DataError: no such file, not JSON, not a list of samples with conversations.
    """
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"there is no data file '{path}'", todo="check data_folder and stages.*.data") from None
    except ValueError as error:
        raise DataError(f"data file '{path}' is not JSON: {error}") from None
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(f"data file '{path}' is not a list of samples", allowed="[{id, image, conversations}, …]")
    return entries


def image_names(entry: dict) -> list[str]:
    """The picture files of a sample, in the order of their marks."""
    image = entry.get("image") or []
    return [image] if isinstance(image, str) else list(image)


def turns_of(entry: dict) -> list[tuple[str, str]]:
    """A sample's conversation as `(role, text)` turns."""
    conversations = entry.get("conversations")
    if not isinstance(conversations, list) or not conversations:
        raise DataError("it has no conversations")
    turns = []
    for turn in conversations:
        if turn["from"] not in _ROLES:
            raise DataError(f"unknown speaker {turn['from']!r}", allowed=", ".join(_ROLES))
        turns.append((_ROLES[turn["from"]], turn["value"]))
    return turns


def plain_pieces(entry: dict) -> list[tuple[str, bool]]:
    """Stage 1: the picture marks, a newline, and the first answer, which alone counts; the question is dropped."""
    answers = [text for role, text in turns_of(entry) if role == "assistant"]
    if not answers:
        raise DataError("it has no caption")
    return [(f"{IMAGE_MARK}" * len(image_names(entry)) + "\n", False), (answers[0], True)]
