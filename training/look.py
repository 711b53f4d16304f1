"""Whether a model looks: the loss of a batch beside that of the same batch with its pictures exchanged.

A falling loss does not say that pictures are used: a projector that gives every picture the same large embedding lets
the language model learn the answers' form alone. What a picture is worth is how much the loss of its answer's tokens
rises when the sample gets another sample's picture. Two figures tell early why it is worth nothing: the visual
embeddings' root mean square over that of the text's (far above 1 they drown the text, far below they are not heard),
and the share of their variance that lies between tiles (near 0 all pictures look alike).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from math import sqrt
from typing import TYPE_CHECKING

import torch
from numpy import array_equal
from torch import Tensor
from torch.nn import functional as F

from laco_export.layout_rules import SINGLE_TILE
from laco_export.token_layouts import TokenLayout

from .counted_positions import keep_counted_positions
from .data.samples import IGNORED

if TYPE_CHECKING:
    from laco_export.models import LacoForConditionalGeneration

LEAST_WORTH = 0.01
"""Nats a token below which a picture is worth nothing, however surely: a loss of 2.00 instead of 1.99."""
_ERRORS = 2  # standard errors that a worth must be above zero
LEAST_SAMPLES = 4
"""A standard error of fewer says nothing."""


@dataclass(frozen=True)
class Look:
    """One measurement.

    Attributes:
        samples: those whose pictures could be exchanged; the losses are theirs.
        tokens: of their answers.
        loss, exchanged_loss: mean nats a token with the sample's own pictures and with others'.
        error: standard error of their difference over the samples.
        visual_rms, text_rms: root mean square of the embeddings that the projector gives and of the text's.
        between_tiles: the share of the projector's variance that lies between tiles, 0 to 1; an untiled picture is one.
    """

    samples: int
    tokens: int
    loss: float
    exchanged_loss: float
    error: float
    visual_rms: float
    text_rms: float
    between_tiles: float

    @property
    def worth(self) -> float:
        """What a picture is worth, in nats a token."""
        return self.exchanged_loss - self.loss

    @property
    def rms_over_text(self) -> float:
        return self.visual_rms / self.text_rms

    @property
    def worth_nothing(self) -> bool:
        """The worth is not surely above zero, or below :data:`LEAST_WORTH`."""
        return not self.worth > max(LEAST_WORTH, _ERRORS * self.error)

    def verdict(self) -> str:
        """One sentence, and what to do where a picture is worth nothing."""
        measured = f"{self.worth:.3f} ± {self.error:.3f} nats a token over {self.samples} samples"
        if not self.worth_nothing:
            return f"a picture is worth {measured}"
        return (
            f"a picture is worth nothing that can be told from chance: {measured}; the model answers without looking "
            f"(visual embeddings are {self.rms_over_text:.2g} x the text's, {self.between_tiles:.0%} of their variance "
            "lies between tiles). Train longer; if that does not help, lower the learning rates of compressor and "
            "projector, or try another model.projector_start"
        )

    def to_dict(self) -> dict:
        """Plain values, the derived ones too."""
        derived = ("worth", "rms_over_text", "worth_nothing")
        return {**asdict(self), **{name: getattr(self, name) for name in derived}}


def joined_look(looks: Sequence[Mapping]) -> Look | None:
    """Several measurements (:meth:`Look.to_dict`, or what a trainer logged) as one: means weighted by their tokens."""
    if not looks:
        return None
    tokens = sum(look["tokens"] for look in looks)
    shares = [look["tokens"] / tokens for look in looks]
    means = {
        name: sum(share * look[name] for share, look in zip(shares, looks, strict=True))
        for name in ("loss", "exchanged_loss", "visual_rms", "text_rms", "between_tiles")
    }
    error = sqrt(sum((share * look["error"]) ** 2 for share, look in zip(shares, looks, strict=True)))
    return Look(samples=sum(look["samples"] for look in looks), tokens=tokens, error=error, **means)


def looks_by_block(looks: Sequence[Mapping]) -> dict[int | str, list[Mapping]]:
    """``looks`` by where the merge stood (``block``): a number, or of a path of several merges ``6+18``; in order."""
    blocks = sorted({look["block"] for look in looks}, key=lambda block: [int(part) for part in str(block).split("+")])
    return {block: [look for look in looks if look["block"] == block] for block in blocks}


class LookSums:
    """What batches add up to until they are one :class:`Look`."""

    @property
    def samples(self) -> int:
        """Samples whose pictures were exchanged so far."""
        return len(self._samples)

    def __init__(self) -> None:
        self._samples: list[tuple[float, float, int]] = []  # each sample's loss, exchanged loss and tokens, summed
        self._visual = self._text = 0.0  # sums of squares over the width, a token
        self._visual_tokens = self._text_tokens = self._tiles = 0
        self._of_means = 0.0
        self._means: Tensor | None = None

    def add_losses(self, own: Tensor, exchanged: Tensor, tokens: Tensor) -> None:
        """Float64 ``[S]`` each, summed over a sample's tokens; one without any is left out."""
        sums = zip(own.tolist(), exchanged.tolist(), tokens.tolist(), strict=True)
        self._samples += [(a, b, int(n)) for a, b, n in sums if n]

    def add_embeddings(self, visual: Tensor, text: Tensor) -> None:
        """``visual [tiles, T, D]``, ``text [n, D]``."""
        visual, text = visual.double(), text.double()
        means = visual.mean(1)  # [tiles, D]
        self._means = means.sum(0) + (0 if self._means is None else self._means)
        self._of_means += means.pow(2).sum().item()
        self._visual += visual.pow(2).mean(-1).sum().item()
        self._text += text.pow(2).mean(-1).sum().item()
        self._tiles += len(visual)
        self._visual_tokens += visual.shape[0] * visual.shape[1]
        self._text_tokens += len(text)

    def look(self) -> Look | None:
        """The measurement; None where the pictures of fewer than :data:`LEAST_SAMPLES` samples could be exchanged."""
        if len(self._samples) < LEAST_SAMPLES:
            return None
        tokens = sum(n for _, _, n in self._samples)
        own, exchanged = (sum(sample[place] for sample in self._samples) / tokens for place in (0, 1))
        worth, count = exchanged - own, len(self._samples)
        # The worth is a ratio of sums over samples; its error is that of each sample's distance from it.
        squares = sum((b - a - worth * n) ** 2 for a, b, n in self._samples)
        error = sqrt(squares * count / (count - 1)) / tokens
        return Look(
            samples=count,
            tokens=tokens,
            loss=own,
            exchanged_loss=exchanged,
            error=error,
            visual_rms=sqrt(self._visual / self._visual_tokens),
            text_rms=sqrt(self._text / self._text_tokens),
            between_tiles=self._share_between(),
        )

    def _share_between(self) -> float:
        width = len(self._means)
        of_all = self._means.div(self._tiles).pow(2).sum().item()  # the squared length of the mean of all
        whole = self._visual * width / self._visual_tokens - of_all
        return max(0.0, (self._of_means / self._tiles - of_all) / whole) if whole > 0 else 0.0


def measure_look(model: LacoForConditionalGeneration, batches: Iterable[Mapping]) -> Look | None:
    """Run batches with their own and with exchanged pictures.

    Args:
        batches: of :class:`.data.Collator`, without ``notes``, on the model's device.

    Returns:
        None where too few samples have a picture that another sample could lend.
    """
    sums = LookSums()
    for batch in batches:
        add_batch(sums, model, batch)
    return sums.look()


@torch.no_grad()
def add_batch(sums: LookSums, model, batch: Mapping, *, unwrapped: LacoForConditionalGeneration | None = None) -> None:
    """Add what one batch shows.

    Args:
        model: the model, or the wrapper (DDP) through which it must be run.
        unwrapped: the model inside ``model``.
    """
    inner = unwrapped or model
    trains = inner.training
    model.eval()
    try:
        _add_batch(sums, model, inner, dict(batch))
    finally:
        model.train(trains)


def _add_batch(sums: LookSums, model, inner: LacoForConditionalGeneration, batch: dict) -> None:
    if "pixel_values" not in batch:
        return
    owners, tiles, plans = _pictures_of(inner, batch)
    tiles_of = batch["pixel_values"].split(tiles)
    partners = exchange_partners(owners, plans, tiles_of)
    counted = set(owners) - {owner for owner, other in zip(owners, partners, strict=True) if other is None}
    if not counted:
        return
    exchanged = torch.cat([tiles_of[p if other is None else other] for p, other in enumerate(partners)])
    with _embeddings(inner) as seen:
        own = _token_losses(model, batch)  # [B, K]
    other = _token_losses(model, {**batch, "pixel_values": exchanged})
    samples = _sample_of_each_token(batch)  # [B, T]
    _add_embeddings(sums, inner, batch, seen)
    positions = keep_counted_positions(batch["labels"])
    of_loss, counts = samples[:, 1:][:, positions["logits_to_keep"]], positions["labels"] != IGNORED  # [B, K]
    which = torch.tensor(sorted(counted), device=of_loss.device)
    members = (of_loss[None] == which[:, None, None]) & counts  # [S, B, K]
    sums.add_losses(*((members * losses.double()).sum((1, 2)) for losses in (own, other)), members.sum((1, 2)).double())


def exchange_partners(owners: Sequence[int], plans: Sequence[TokenLayout], tiles: Sequence[Tensor]) -> list[int | None]:
    """For each picture the next one of another sample that has the same layout and shows something else; None where
    none does.

    Args:
        owners: the sample of each picture, in reading order.
        plans: where each picture's tokens come from.
        tiles: each picture's ``[tiles, 3, H, W]``.
    """

    def can_stand_for(other: int, picture: int) -> bool:
        return (
            owners[other] != owners[picture]
            and plans[other].tiles == plans[picture].tiles
            and array_equal(plans[other].indices, plans[picture].indices)
            and not torch.equal(tiles[other], tiles[picture])
        )

    count = len(owners)
    return [
        next(((p + step) % count for step in range(1, count) if can_stand_for((p + step) % count, p)), None)
        for p in range(count)
    ]


def _pictures_of(model: LacoForConditionalGeneration, batch: dict) -> tuple[list[int], list[int], list[TokenLayout]]:
    """Sample, number of tiles and layout of each picture."""
    singles = [SINGLE_TILE] * len(batch["pixel_values"])
    sizes = batch["image_sizes"].tolist() if "image_sizes" in batch else singles
    plans = model.token_layouts(sizes)
    samples = _sample_of_each_token(batch)[batch["input_ids"] == model.config.image_token_id].tolist()
    firsts = [sum(len(plan) for plan in plans[:place]) for place in range(len(plans))]
    return [samples[first] for first in firsts], [plan.tiles for plan in plans], plans


def _sample_of_each_token(batch: dict) -> Tensor:
    """Int64 ``[B, T]``: rows are samples; in a packed row positions begin anew with each."""
    ids = batch["input_ids"]
    if "position_ids" in batch:
        return (batch["position_ids"] == 0).cumsum(1) - 1
    return torch.arange(len(ids), device=ids.device)[:, None].expand_as(ids)


def _token_losses(model, batch: dict) -> Tensor:
    """Cross entropy ``[B, K]`` at the positions that count, 0 where a row's own does not."""
    counted = keep_counted_positions(batch["labels"])
    inputs = {name: value for name, value in batch.items() if name != "labels"}
    logits = model(**inputs, logits_to_keep=counted["logits_to_keep"], use_cache=False).logits  # [B, K, V]
    return F.cross_entropy(logits.float().transpose(1, 2), counted["labels"], ignore_index=IGNORED, reduction="none")


@contextmanager
def _embeddings(model: LacoForConditionalGeneration) -> Iterator[dict[str, Tensor]]:
    """What projector and embedding table give while the block runs."""
    seen: dict[str, Tensor] = {}
    hooks = [
        module.register_forward_hook(lambda _module, _inputs, output, name=name: seen.__setitem__(name, output))
        for name, module in (("visual", model.projector), ("text", model.get_input_embeddings()))
    ]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _add_embeddings(sums: LookSums, model, batch: dict, seen: dict[str, Tensor]) -> None:
    is_text = batch["input_ids"] != model.config.image_token_id
    if "attention_mask" in batch:
        is_text &= batch["attention_mask"].bool()
    sums.add_embeddings(seen["visual"], seen["text"][is_text])
