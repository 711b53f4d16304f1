"""PyTorch's answers to the golden questions, which a finished bundle is asked before it gets its name.

The prompts are the checkpoint's own processor's, the visual embeddings and their packing the checkpoint's model's; the
engines, which ask the bundle, tokenise and pack by themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from ..bundle import Decoder
from ..conversation import question_turn, render
from ..errors import UsageError
from ..golden_answers import EmbeddingSample, GoldenAnswer, GoldenAnswers, GoldenQuestion, PackingSample, sampled_logits
from .decoder.greedy import GreedyAnswer, greedy_answer, pytorch_step
from .decoder.precision import DECODER_PRECISIONS
from .decoder.prompts import DecoderPrompt
from .decoder.rounding_cost import given_logits
from .golden_pictures import PreparedPictures
from .loaded_checkpoint import LoadedCheckpoint

_NO_PICTURE, _ONE_PICTURE, _SEVERAL_PICTURES = (
    "What is the capital of France?",
    "What is in the picture?",
    "What is different in the second picture?",
)
_ANSWER_TOKENS = 8
"""Of an answer: three of them cost a full-size model seconds, and a fault of position, packing or cache shows in the
first ones."""

_AS_ONE = 4  # golden pictures that a tiled one is made of: two rows of two
_SAMPLED_ROWS, _SAMPLED_COLUMNS = 256, 16  # of the embedding: 16 KB
_SAMPLED_TOKENS = 32  # of the tiled picture: 115 KB at 896 channels


@dataclass(frozen=True)
class AskedModel:
    """A checkpoint with PyTorch's features of the golden pictures, ready to be asked.

    Attributes:
        features: the bytes of a picture's pixel values → its visual embeddings ``[1, tokens, D]``.
    """

    loaded: LoadedCheckpoint
    pictures: PreparedPictures
    features: dict[bytes, torch.Tensor]

    @classmethod
    def of(cls, loaded: LoadedCheckpoint, pictures: PreparedPictures, features: Sequence[np.ndarray]) -> AskedModel:
        """With the golden pictures' features, float32 ``[1, tokens, D]`` each, computed already."""
        keys = (pixels.tobytes() for pixels in pictures.pixel_values)
        return cls(loaded, pictures, dict(zip(keys, map(torch.from_numpy, features), strict=True)))

    def encode_ahead(self) -> None:
        """Compute the features of all that the golden questions show, and of what a question about pictures shows in
        their place (:meth:`turned`): prompts are made of them when the tower is in memory no more."""
        for question in self.questions():
            for asked in (question, self.turned(question)):
                if asked is not None:
                    with suppress(UsageError):
                        self.prompt(asked)

    def questions(self) -> list[GoldenQuestion]:
        """The golden questions about the pictures."""
        return _questions(len(self.pictures.pixels), tiles=self.loaded.model.config.tiling is not None)

    def turned(self, question: GoldenQuestion) -> GoldenQuestion | None:
        """The same question about the next golden pictures; None where it shows none, or the same again."""
        pixels = self.pictures.pixels
        pictures = tuple((index + 1) % len(pixels) for index in question.pictures)
        if all(np.array_equal(pixels[old], pixels[new]) for old, new in zip(question.pictures, pictures)):
            return None
        return replace(question, pictures=pictures)

    def prompt(self, question: GoldenQuestion) -> DecoderPrompt:
        """A question as the language model reads it.

        Raises:
            UsageError: it is longer than the model's context leaves room for.
        """
        model, processor = self.loaded.model, self.loaded.checkpoint.processor
        shown = question.shown(self.pictures.pixels)
        asked = [question_turn(question.text, len(shown))]
        text = render(asked, add_generation_prompt=True, chat_format=processor.chat_format)
        inputs = processor(images=shown or None, text=text, return_tensors="pt")
        ids = inputs["input_ids"][0].numpy()
        context = model.config.text_config.max_position_embeddings
        if len(ids) + _ANSWER_TOKENS > context:
            raise UsageError("the prompt is longer than the model's context", given=len(ids), allowed=context)
        if not shown:
            return DecoderPrompt(ids, np.zeros(len(ids), bool))
        tiles = torch.cat([self._encoded(tile[None]) for tile in inputs["pixel_values"]])  # [tiles, tokens, D]
        packed = torch.cat(model.pack_image_features(tiles, inputs["image_sizes"]))  # [n, D]
        return DecoderPrompt(ids, np.zeros(len(ids), bool), packed.detach().numpy(), model.config.image_token_id)

    def _encoded(self, tile: torch.Tensor) -> torch.Tensor:
        key = tile.numpy().tobytes()
        if key not in self.features:
            with torch.inference_mode():
                self.features[key] = self.loaded.model.get_image_features(tile)
        return self.features[key]


@dataclass(frozen=True)
class PytorchAnswers:
    """What PyTorch answered.

    Attributes:
        golden: for the bundle; None where none of the questions fits the model's context.
        about_pictures: the shortest question about pictures, and the logits ``[V]`` of its answer's first token with
            the checkpoint's own weights; None where none was asked.
        notes: questions that could not be asked.
    """

    golden: GoldenAnswers | None
    about_pictures: tuple[GoldenQuestion, np.ndarray] | None
    notes: tuple[str, ...]


def ask_pytorch(asked: AskedModel, entry: Decoder, folder: Path, token_ids: np.ndarray | None = None) -> PytorchAnswers:
    """Ask PyTorch without a picture, about one (tiled where the model tiles), and about several.

    Args:
        entry: the decoder that was written into the bundle's ``folder``: its precision's weights give the logits.
        token_ids: int64 ``[K]``: the tokens that the decoder has rows for, from which answers are chosen; None for all.
    """
    model = asked.loaded.model
    weight, step = model.get_input_embeddings().weight, pytorch_step(model.language_model)
    prompts: list[tuple[GoldenQuestion, DecoderPrompt, GreedyAnswer]] = []
    notes, packing = [], None
    for question in asked.questions():
        try:
            prompt = asked.prompt(question)
        except UsageError as error:
            notes.append(f"'{question.text}' is no golden question: {error.failed} ({error.given})")
            continue
        answer = greedy_answer(step, prompt.embeds(weight), weight, entry.eos_token_ids, _ANSWER_TOKENS, token_ids)
        prompts.append((question, prompt, answer))
        if question.as_one:
            packing = _packing_sample(prompt.features)
    if not prompts:
        return PytorchAnswers(None, None, tuple(notes))
    if token_ids is not None:
        notes.append(_note_on_vocabulary([answer for _, _, answer in prompts]))
    logits = _logits_as_stored(model.language_model, folder / entry.graph, entry.precision, prompts)
    answers = tuple(
        GoldenAnswer(
            question, prompt.ids.astype(np.int64), np.array(answer.ids, np.int64), *sampled_logits(values, token_ids)
        )
        for (question, prompt, answer), values in zip(prompts, logits, strict=True)
    )
    newline = None if model.image_newline is None else model.image_newline.detach().float().numpy()
    return PytorchAnswers(
        GoldenAnswers(answers, _embedding_sample(weight), newline, packing), _shortest(prompts), tuple(notes)
    )


def _questions(count: int, *, tiles: bool) -> list[GoldenQuestion]:
    """The questions about a set of ``count`` pictures; ``tiles``: the model tiles a prompt's only picture."""
    middle, following = count // 2, (count // 2 + 1) % count
    about_one = GoldenQuestion(_ONE_PICTURE, tuple(range(min(count, _AS_ONE))) if tiles else (middle,), as_one=tiles)
    return [GoldenQuestion(_NO_PICTURE, ()), about_one, GoldenQuestion(_SEVERAL_PICTURES, (following, middle))]


def _logits_as_stored(language_model, graph: Path, precision: str, prompts) -> list[np.ndarray]:
    """Each answer's logits ``[A, V]`` with the weights that ``graph`` stores.

    Those of a float are the model's own (the comparison allows for what a half rounds). An integer precision's take the
    model's place for a pass over each prompt with its answer.
    """
    chosen = DECODER_PRECISIONS[precision]
    if chosen.bits is None:
        return [answer.logits for _, _, answer in prompts]
    from .decoder.rounded import rounded_weights

    weight, logits = language_model.get_input_embeddings().weight, []
    with rounded_weights(language_model, graph, chosen):
        for _, prompt, answer in prompts:
            answered = weight.detach()[answer.ids[:-1]].float().numpy()
            rows = np.concatenate([prompt.embeds(weight), answered])  # [T + A - 1, D]
            logits.append(given_logits(language_model, rows, np.arange(len(prompt.ids) - 1, len(rows))))
    return logits


def _note_on_vocabulary(answers: Sequence[GreedyAnswer]) -> str:
    other = [token != int(logits.argmax()) for answer in answers for token, logits in zip(answer.ids, answer.logits)]
    return (
        "the answers to the golden questions are PyTorch's best tokens of those in the reduced vocabulary: at "
        f"{sum(other)} of {len(other)} the whole head's best has no row"
    )


def _shortest(prompts) -> tuple[GoldenQuestion, np.ndarray] | None:
    """The shortest question about pictures, and its answer's first logits."""
    about = [(len(prompt.ids), question, answer) for question, prompt, answer in prompts if question.pictures]
    if not about:
        return None
    _, question, answer = min(about, key=lambda entry: entry[0])
    return question, answer.logits[0]


def _packing_sample(tokens: np.ndarray) -> PackingSample:
    positions = np.unique(np.linspace(0, len(tokens) - 1, _SAMPLED_TOKENS).astype(np.int64))
    return PackingSample(positions, tokens[positions])


def _embedding_sample(weight: torch.Tensor) -> EmbeddingSample:
    count, width = weight.shape
    ids = np.unique(np.linspace(0, count - 1, _SAMPLED_ROWS).astype(np.int64))
    columns = np.unique(np.linspace(0, width - 1, _SAMPLED_COLUMNS).astype(np.int64))
    rows = weight.detach()[ids][:, columns].float().numpy()
    return EmbeddingSample(ids, columns, np.ascontiguousarray(rows))
