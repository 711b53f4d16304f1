"""``golden_answers.npz``: what PyTorch answers about the golden pictures, so that a finished bundle can be asked.

::

    questions                      [n] str
    K/pictures                     [p] int64      the golden pictures that question K is about, in reading order
    K/as_one                       [] bool        they are shown as one picture, which is tiled
    K/prompt_ids                   [T] int64      the prompt, the image token at every visual embedding
    K/token_ids                    [A] int64      PyTorch's greedy answer, the end token included
    K/logit_ids, K/logits          [A, N]         logits of each step: the best first, then evenly spaced ones
    embedding/ids, /columns, /rows [s], [c], [s, c]    some values of some rows
    image_newline                  [D] float32    where pictures are tiled
    packing/positions, /tokens     [m], [m, D]    some visual tokens of the picture that is tiled

The answer is the checkpoint's own. The logits are PyTorch's with the weights that the bundle stores, each after the
answer's tokens before it: of a rounded language model they say what a right graph gives, and what rounding costs is
measured elsewhere (``accuracy.decoder.cost``). Where the bundle's vocabulary is reduced (``decoder.vocabulary``) the
answer is of its tokens, the best of them at each step, and so are the logits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .bundle import Bundle
from .errors import BundleError
from .stored_arrays import ArrayArchive, open_arrays

GOLDEN_ANSWERS_NAME = "golden_answers.npz"

BEST_LOGITS = 16
"""Of each step, the best first."""
SPREAD_LOGITS = 240
"""Of each step, evenly spaced over the vocabulary: what the distance of two sets of logits is taken over."""

_MOST_QUESTIONS, _MOST_PICTURES, _MOST_TOKENS, _MOST_SAMPLES = 16, 16, 64, 4096
_LONGEST_QUESTION = 1000


@dataclass(frozen=True)
class GoldenQuestion:
    """What is asked.

    Attributes:
        pictures: the golden pictures that it is about, in reading order.
        as_one: they are shown as one picture (:func:`montage`), which the model tiles.
    """

    text: str
    pictures: tuple[int, ...]
    as_one: bool = False

    def shown(self, golden_pictures: Sequence[np.ndarray]) -> list[Image.Image]:
        """Its pictures, of the golden ones, uint8 ``[H, W, 3]`` each."""
        pictures = [golden_pictures[index] for index in self.pictures]
        return [Image.fromarray(pixels) for pixels in ([montage(pictures)] if self.as_one else pictures)]

    def pictures_in_words(self) -> str:
        """``without a picture``, ``a tiled picture``, ``2 pictures``: what tells the questions of a bundle apart."""
        if self.as_one:
            return "a tiled picture"
        return {0: "without a picture", 1: "a picture"}.get(len(self.pictures), f"{len(self.pictures)} pictures")


@dataclass(frozen=True)
class GoldenAnswer:
    """A question and what PyTorch answers.

    Attributes:
        prompt_ids: int64 ``[T]``, with the image token at every visual embedding.
        token_ids: int64 ``[A]``, the checkpoint's greedy answer.
        logit_ids: int64 ``[A, N]``: the :data:`BEST_LOGITS` best tokens of each step, the best first, then others,
            evenly spaced over the vocabulary.
        logits: float32 ``[A, N]`` of them.
    """

    question: GoldenQuestion
    prompt_ids: np.ndarray
    token_ids: np.ndarray
    logit_ids: np.ndarray
    logits: np.ndarray

    @property
    def best(self) -> np.ndarray:
        """int64 ``[A]``: what PyTorch chooses at each step with the weights that the bundle stores."""
        return self.logit_ids[:, 0]

    @property
    def margins(self) -> np.ndarray:
        """float32 ``[A]``: the best logit less the second."""
        return self.logits[:, 0] - self.logits[:, 1]

    @property
    def deviations(self) -> np.ndarray:
        """float32 ``[A]``: the logits' standard deviation over the vocabulary."""
        return self.logits[:, BEST_LOGITS:].std(1)


@dataclass(frozen=True)
class EmbeddingSample:
    """Values of the embedding as PyTorch has it: float32 ``[s, c]`` of rows ``ids [s]`` and ``columns [c]``, int64."""

    ids: np.ndarray
    columns: np.ndarray
    rows: np.ndarray


@dataclass(frozen=True)
class PackingSample:
    """Visual tokens of the tiled picture: float32 ``[m, D]`` at int64 ``positions [m]`` among its tokens."""

    positions: np.ndarray
    tokens: np.ndarray


@dataclass(frozen=True)
class GoldenAnswers:
    """What the file holds.

    Attributes:
        answers: at least one.
        newline: float32 ``[D]``, where the model tiles.
        packing: of the question whose pictures are shown as one, where there is such.
    """

    answers: tuple[GoldenAnswer, ...]
    embedding: EmbeddingSample
    newline: np.ndarray | None = None
    packing: PackingSample | None = None


def montage(pictures: Sequence[np.ndarray]) -> np.ndarray:
    """Pictures of one size, uint8 ``[H, W, 3]`` each, as one, two a row, so that tiles in another order show."""
    columns = min(2, len(pictures))
    rows = [np.concatenate(pictures[start : start + columns], 1) for start in range(0, len(pictures), columns)]
    return np.concatenate([row for row in rows if row.shape == rows[0].shape])


def sampled_logits(logits: np.ndarray, token_ids: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """``logit_ids`` and ``logits`` of whole ones, float32 ``[A, V]``.

    Args:
        token_ids: int64 ``[K]``: the tokens that a reduced vocabulary has, whose logits alone are taken; None for all.
    """
    if token_ids is None:
        token_ids = np.arange(logits.shape[1])
    best = token_ids[np.argsort(-logits[:, token_ids], 1, kind="stable")[:, :BEST_LOGITS]]
    spread = token_ids[np.linspace(0, len(token_ids) - 1, min(SPREAD_LOGITS, len(token_ids))).astype(np.int64)]
    ids = np.concatenate([best, np.broadcast_to(spread, (len(logits), len(spread)))], 1)
    return ids, np.take_along_axis(logits, ids, 1).astype(np.float32)


def write_golden_answers(folder: Path, golden: GoldenAnswers, *, name: str = GOLDEN_ANSWERS_NAME) -> None:
    """Write the file, as ``name``, into the bundle that is being built."""
    arrays = {"questions": np.array([answer.question.text for answer in golden.answers])}
    for index, answer in enumerate(golden.answers):
        arrays[f"{index}/pictures"] = np.array(answer.question.pictures, np.int64)
        arrays[f"{index}/as_one"] = np.array(answer.question.as_one)
        for array in ("prompt_ids", "token_ids", "logit_ids", "logits"):
            arrays[f"{index}/{array}"] = getattr(answer, array)
    for place, sample in (("embedding", golden.embedding), ("packing", golden.packing)):
        if sample is not None:
            arrays |= {f"{place}/{array}": values for array, values in vars(sample).items()}
    if golden.newline is not None:
        arrays["image_newline"] = golden.newline
    with open(folder / name, "wb") as file:
        np.savez_compressed(file, **arrays)


def read_golden_answers(bundle: Bundle, pictures: int) -> GoldenAnswers | None:
    """Read the bundle's file; None where it has none: it is without a language model, or of an earlier version.

    Args:
        pictures: how many golden ones there are.

    Raises:
        BundleError: the file cannot be read, or its arrays are not of the manifest's language model.
    """
    manifest = bundle.manifest
    if manifest.golden_answers is None or manifest.decoder is None:
        return None
    name = manifest.golden_answers
    with bundle.unchanged(name), open_arrays(bundle.file(name)) as archive:
        reader = _Reader(bundle, archive, pictures)
        return GoldenAnswers(reader.answers(), reader.embedding(), reader.newline(), reader.packing())


class _Reader:
    """Reads one file, each array against what the manifest says of its model."""

    def __init__(self, bundle: Bundle, archive: ArrayArchive, pictures: int):
        self._bundle, self._archive, self._pictures = bundle, archive, pictures
        self._decoder = bundle.manifest.decoder

    def answers(self) -> tuple[GoldenAnswer, ...]:
        questions = self._archive.read(
            "questions",
            lambda dtype, shape: (
                dtype.kind == "U"
                and dtype.itemsize <= 4 * _LONGEST_QUESTION
                and len(shape) == 1
                and 1 <= shape[0] <= _MOST_QUESTIONS
            ),
            f"1 … {_MOST_QUESTIONS} questions of at most {_LONGEST_QUESTION:,} characters",
        ).tolist()
        return tuple(self._answer(index, text) for index, text in enumerate(questions))

    def _answer(self, index: int, text: str) -> GoldenAnswer:
        vocabulary = self._decoder.vocab_size
        pictures = self._numbers(f"{index}/pictures", (0, _MOST_PICTURES), below=self._pictures)
        as_one = self._archive.read(f"{index}/as_one", lambda dtype, shape: (dtype, shape) == (bool, ()), "a flag")
        prompt_ids = self._numbers(f"{index}/prompt_ids", (1, self._decoder.context_length), below=vocabulary)
        token_ids = self._numbers(f"{index}/token_ids", (1, _MOST_TOKENS), below=vocabulary)
        columns = (BEST_LOGITS + 1, BEST_LOGITS + SPREAD_LOGITS)
        logit_ids = self._numbers(f"{index}/logit_ids", columns, below=vocabulary, rows=len(token_ids))
        logits = self._floats(f"{index}/logits", logit_ids.shape)
        question = GoldenQuestion(text, tuple(pictures.tolist()), bool(as_one))
        return GoldenAnswer(question, prompt_ids, token_ids, logit_ids, logits)

    def embedding(self) -> EmbeddingSample:
        ids = self._numbers("embedding/ids", (1, _MOST_SAMPLES), below=self._decoder.vocab_size)
        columns = self._numbers("embedding/columns", (1, _MOST_SAMPLES), below=self._decoder.hidden_size)
        return EmbeddingSample(ids, columns, self._floats("embedding/rows", (len(ids), len(columns))))

    def newline(self) -> np.ndarray | None:
        if "image_newline" not in self._archive.names:
            return None
        return self._floats("image_newline", (self._decoder.hidden_size,))

    def packing(self) -> PackingSample | None:
        if "packing/positions" not in self._archive.names:
            return None
        positions = self._numbers("packing/positions", (1, _MOST_SAMPLES), below=self._decoder.context_length)
        return PackingSample(positions, self._floats("packing/tokens", (len(positions), self._decoder.hidden_size)))

    def _numbers(self, name: str, length: tuple[int, int], *, below: int, rows: int | None = None) -> np.ndarray:
        """int64 ``[n]``, or ``[rows, n]``, of 0 … ``below - 1``."""
        before = () if rows is None else (rows,)

        def accepts(dtype: np.dtype, shape: tuple[int, ...]) -> bool:
            return dtype == np.int64 and shape[:-1] == before and length[0] <= shape[-1] <= length[1]

        allowed = f"int64 [{''.join(f'{count}, ' for count in before)}{length[0]} … {length[1]:,}]"
        values = self._archive.read(name, _of_shape(len(before) + 1, accepts), allowed)
        if values.size and not 0 <= values.min() <= values.max() < below:
            raise self._wrong(name, f"{values.min()} … {values.max()}", f"0 … {below - 1:,}")
        return values

    def _floats(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        values = self._archive.read(
            name, lambda dtype, actual: dtype == np.float32 and actual == shape, f"float32 {list(shape)}"
        )
        if not np.isfinite(values).all():
            raise self._wrong(name, "inf or NaN", "finite numbers")
        return values

    def _wrong(self, name: str, holds: str, allowed: str) -> BundleError:
        return BundleError(
            f"'{self._bundle.file(self._bundle.manifest.golden_answers)}' is not of this bundle's model: {name}",
            given=holds,
            allowed=allowed,
            todo="copy the bundle again, or export it again",
        )


def _of_shape(dimensions: int, accepts: Callable) -> Callable:
    return lambda dtype, shape: len(shape) == dimensions and accepts(dtype, shape)
