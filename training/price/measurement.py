"""What each depth costs: operations and time of an encode, the features' error, and the answers that stay the same.

Every sample is answered greedily by the model with compression off and then at each depth; its features are taken on
the way, so that a picture is encoded once for each. Nothing is trained and nothing is written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from statistics import fmean

import torch
from torch import Tensor
from transformers import BatchFeature

from laco_export.conversation import render
from laco_export.errors import NotFiniteError, UsageError
from laco_export.merge_path import MergePath
from laco_export.models import LacoForConditionalGeneration, LacoProcessor
from laco_export.models.flops import vision_flops
from laco_export.timing import Series, interleave

from ..distillation.losses import feature_errors, token_cosines
from ..distillation.matching import remaining_ratios
from ..distillation.pooling import average_windows
from .samples import PriceSample, PriceSamples
from .subjects import Subjects

REFERENCE = "off"
"""The name of the row without merges."""
TIMED_ENCODES, _WARMUP = 7, 2


@dataclass(frozen=True)
class SeenAnswer:
    """Greedy tokens, their text, and the projected features of the tiles that it looked at, ``[tiles, T, D]``."""

    token_ids: list[int]
    text: str
    features: Tensor


@dataclass(frozen=True)
class SamplePrice:
    """One sample at one depth.

    Attributes:
        relative_error: ``‖features − targets‖² / ‖targets‖²``, mean over the sample's tiles.
        cosine: mean over its tokens.
        before, after: the answers with compression off and at this depth.
        tokens_kept: the share of the answer's tokens before the first that differs.
        worst_tile: the tile with the largest error, counted from 0.
        token_errors: of that tile, ``[T]`` on the grid of the language model's tokens.
    """

    name: str
    question: str
    relative_error: float
    cosine: float
    before: str
    after: str
    same_answer: bool
    same_first_token: bool
    tokens_kept: float
    worst_tile: int
    token_errors: Sequence[float]

    def to_dict(self) -> dict:
        """Without the map of token errors."""
        return {name: value for name, value in asdict(self).items() if name != "token_errors"}


@dataclass(frozen=True)
class DepthPrice:
    """One row: a depth, or :data:`REFERENCE`.

    Attributes:
        path: the merges; None for the reference.
        tokens: that the language model sees of a tile.
        flops: of a tile's encode, multiply-adds twice (:mod:`laco_export.models.flops`).
        encode: time of a tile's encode in PyTorch, in turn with the others (:meth:`laco_export.timing.Series.to_dict`).
        samples: empty for the reference.
    """

    at: str
    path: MergePath | None
    tokens: int
    flops: int
    encode: Mapping
    samples: Sequence[SamplePrice] = ()

    def mean(self, measure: str) -> float:
        """Of a field of :class:`SamplePrice`, as a share where it is a truth value."""
        return fmean(float(getattr(sample, measure)) for sample in self.samples)

    def worst(self, count: int) -> list[SamplePrice]:
        """Samples with the largest relative error, the largest first."""
        return sorted(self.samples, key=lambda sample: sample.relative_error, reverse=True)[:count]


def measure_prices(
    subjects: Subjects, samples: PriceSamples, *, max_new_tokens: int, advance: Callable[..., None]
) -> list[DepthPrice]:
    """The reference's row and each depth's.

    Args:
        advance: told of each answer and of the timing (:func:`steps_of`).
    """
    device = subjects.reference.device
    by_depth: dict[str, list[SamplePrice]] = {at: [] for at in subjects.depths}
    for place in range(len(samples)):
        sample = samples[place]
        advance(0, "off")
        before = answer(subjects.reference, subjects.reference_processor, sample, max_new_tokens)
        advance(1)
        for at in subjects.depths:
            processor = subjects.at_depth(at)
            advance(0, f"at {at}")
            after = answer(subjects.merged, processor, sample, max_new_tokens)
            by_depth[at].append(compare_answers(sample, before, after, _targets(before, subjects, at)))
            advance(1)
    advance(0, "timing")
    pixels = _first_tile(subjects.reference_processor, samples[0]).to(device)
    times = time_encodes(subjects, pixels)
    advance(1)
    reference = subjects.reference
    rows = [
        DepthPrice(
            REFERENCE,
            None,
            reference.tokens_per_image,
            vision_flops(reference.config).total,
            times[REFERENCE].to_dict(),
        )
    ]
    for at, path in subjects.depths.items():
        flops = vision_flops(subjects.merged.config, path=path).total
        encode = times[at].to_dict()
        subjects.at_depth(at)
        rows.append(DepthPrice(at, path, subjects.merged.tokens_per_image, flops, encode, by_depth[at]))
    return rows


def check_question_fits(subjects: Subjects, sample: PriceSample, max_new_tokens: int) -> None:
    """The language model has positions for the sample and its answer without merges, which leave at most as many
    tokens.

    Raises:
        UsageError: it has fewer.
    """
    context = subjects.reference.config.text_config.max_position_embeddings
    tokens = _inputs(subjects.reference_processor, sample)["input_ids"].shape[1] + max_new_tokens
    if tokens > context:
        raise UsageError(
            f"the question, its pictures and an answer take {tokens:,} tokens of a context of {context:,}",
            todo="ask less, show fewer pictures, or lower --tokens",
        )


def steps_of(subjects: Subjects, samples: PriceSamples) -> int:
    """How often :func:`measure_prices` advances."""
    return (1 + len(subjects.depths)) * len(samples) + 1


@torch.inference_mode()
def answer(
    model: LacoForConditionalGeneration, processor: LacoProcessor, sample: PriceSample, max_new_tokens: int
) -> SeenAnswer:
    """The model's greedy answer to one sample."""
    inputs = _inputs(processor, sample).to(model.device)
    with _features_of(model) as seen:
        tokens = model.generate(**inputs, do_sample=False, max_new_tokens=max_new_tokens)[0].tolist()
    prompt_ids = inputs["input_ids"][0].tolist()
    if tokens[: len(prompt_ids)] == prompt_ids:  # some transformers versions return the prompt too
        tokens = tokens[len(prompt_ids) :]
    text = processor.tokenizer.decode(tokens, skip_special_tokens=True).strip()
    return SeenAnswer(tokens, text, torch.cat(seen).float())


def _inputs(processor: LacoProcessor, sample: PriceSample) -> BatchFeature:
    prompt = render(sample.turns, add_generation_prompt=True, chat_format=processor.chat_format)
    return processor(images=sample.pictures, text=prompt, return_tensors="pt")


@contextmanager
def _features_of(model: LacoForConditionalGeneration) -> Iterator[list[Tensor]]:
    """What the projector gives while the block runs, in order."""
    seen: list[Tensor] = []
    hook = model.projector.register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    try:
        yield seen
    finally:
        hook.remove()


def _targets(before: SeenAnswer, subjects: Subjects, at: str) -> Tensor:
    """What the merged model should give at a depth: ``[tiles, T, D]``."""
    reference = subjects.reference
    ratios = remaining_ratios(subjects.depths[at].ratios, reference.config.projector_window)
    return average_windows(before.features, reference.token_grid, ratios)


def compare_answers(sample: PriceSample, before: SeenAnswer, after: SeenAnswer, targets: Tensor) -> SamplePrice:
    """The price of one sample.

    Args:
        targets: of ``after.features``, from ``before.features``.

    Raises:
        NotFiniteError: the features are inf or NaN.
    """
    errors = feature_errors(after.features, targets)  # [tiles]
    if not errors.isfinite().all():
        raise NotFiniteError(f"the features of '{sample.name}' are inf or NaN", todo="check the checkpoint's weights")
    worst = int(errors.argmax())
    return SamplePrice(
        name=sample.name,
        question=sample.question,
        relative_error=errors.mean().item(),
        cosine=token_cosines(after.features, targets).mean().item(),
        before=before.text,
        after=after.text,
        same_answer=before.token_ids == after.token_ids,
        same_first_token=before.token_ids[:1] == after.token_ids[:1],
        tokens_kept=_common(before.token_ids, after.token_ids) / max(1, len(before.token_ids)),
        worst_tile=worst,
        token_errors=token_errors(after.features, targets)[worst].tolist(),
    )


def token_errors(features: Tensor, targets: Tensor) -> Tensor:
    """Where a tile's error lies: each token's ``‖features − targets‖²`` over the mean of the tile's ``‖targets‖²``, so
    that their mean is the tile's relative error: ``[B, T, D]`` twice -> ``[B, T]``."""
    squares = targets.pow(2).sum(-1).mean(1, keepdim=True)
    return (features - targets).pow(2).sum(-1) / squares


def _common(before: Sequence[int], after: Sequence[int]) -> int:
    """Tokens before the first that differs."""
    alike = [a == b for a, b in zip(before, after)]
    return alike.index(False) if False in alike else len(alike)


def _first_tile(processor: LacoProcessor, sample: PriceSample) -> Tensor:
    inputs = processor(images=sample.pictures, text=sample.turns[-1][1], return_tensors="pt")
    return inputs["pixel_values"][:1]


@torch.inference_mode()
def time_encodes(subjects: Subjects, pixels: Tensor) -> dict[str, Series]:
    """Encodes of one tile ``[1, 3, H, W]`` at each depth and without merges, in turn."""
    on_cpu = pixels.device.type == "cpu"
    wait = (lambda: None) if on_cpu else torch.accelerator.synchronize

    def encode(model: LacoForConditionalGeneration, at: str | None) -> None:
        if at is not None:
            model.set_depth(at)
        model.get_image_features(pixels)
        wait()

    runs = {REFERENCE: (lambda: encode(subjects.reference, None), on_cpu)}
    runs |= {at: (lambda at=at: encode(subjects.merged, at), on_cpu) for at in subjects.depths}
    return interleave(runs, repeats=TIMED_ENCODES, warmup=_WARMUP)
