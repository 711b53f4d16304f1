"""The choice, why each better one fails, and what to type: what ``laco-engine plan`` prints."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field

from laco_export.errors import LacoError

from ..bench.plot import spelled
from ..runtimes.protocol import split_batch
from .figures import PREDICTED, Figure
from .limits import Limits, Miss, Quantity
from .search import ANSWERS, MEMORY, TIME, Assessed

_PREFERRED = {ANSWERS: "the fewest points lost", TIME: "the least time", MEMORY: "the least memory"}


class NothingFitsError(LacoError):
    """No candidate keeps all limits; the message names the nearest."""


@dataclass(frozen=True)
class DeploymentPlan:
    """What the search found.

    Attributes:
        choice: the best that keeps the limits, or None.
        failing: what could have been better and does not keep a limit, in the order of preference; without a choice
            all, the nearest first.
        assessed: all candidates, the best first.
        device: that the times are of, for people; elsewhere: by its name in the table, where it is not this machine.
        quality: what points of answers lost are of; None where nothing is known of answers.
        measured, space: candidates that were measured in this run, and that there are.
        asked: questions that were asked in this run.
        notes: what the user must know of how figures came about.
    """

    quantity: Quantity
    limits: Limits
    prefer: str
    device: str
    elsewhere: str | None
    quality: str | None
    choice: Assessed | None
    failing: list[Assessed]
    assessed: list[Assessed]
    measured: int
    asked: int
    notes: list[str] = field(default_factory=list)

    @property
    def space(self) -> int:
        return len(self.assessed)

    @property
    def preference(self) -> str:
        """What was looked for, for people."""
        limits = self.limits
        limited = [
            f"{spell(limit)} of {what}"
            for limit, spell, what in (
                (limits.time_ms, in_milliseconds, self.quantity),
                (limits.memory_bytes, in_gibibytes, "memory"),
                (limits.drop, lambda value: f"{value:g} points", "answers lost"),
            )
            if limit is not None
        ]
        best = {"answers": "the fewest points lost", "time": "the least time", "memory": "the least memory"}[
            self.prefer
        ]
        return f"{best}{' within ' if limited else ''}{', '.join(limited)}"

    def to_dict(self) -> dict:
        """For ``--json``."""
        return {
            "quantity": {"of": self.quantity.kind, "tokens": self.quantity.tokens},
            "limits": asdict(self.limits),
            "prefer": self.prefer,
            "device": self.device,
            "quality": self.quality,
            "choice": None if self.choice is None else document_of(self.choice),
            "failing": [document_of(each) for each in self.failing],
            "candidates": [document_of(each) for each in self.assessed],
            "measured": self.measured,
            "space": self.space,
            "asked": self.asked,
            "notes": self.notes,
            "commands": self.commands(),
        }

    def refusal(self) -> NothingFitsError:
        """The error where nothing keeps the limits."""
        nearest = self.failing[0]
        return NothingFitsError(
            f"none of {self.space} candidates keeps the limits",
            given=f"the nearest is {nearest.candidate}: {reasons(nearest)}",
            todo="allow more, or export what is smaller: another depth (laco-export --at), --llm int4, laco-calibrate",
        )

    def commands(self) -> list[str]:
        """What makes the choice where it is not there as it is, and what runs it."""
        if self.choice is None:
            return []
        candidate = self.choice.candidate
        bundle = candidate.model.bundle
        path, lines = shlex.quote(str(bundle.path)), []
        at = f" --at {candidate.model.depth}" if candidate.model.name.endswith(f"@{candidate.model.depth}") else ""
        if candidate.runs != split_batch(candidate.tiles, list(candidate.model.graphs)):
            lines += [f"{line}  # without the graphs for other batch sizes" for line in making(self.choice)]
        if self.elsewhere is not None and bundle.manifest.vision.target.startswith("trt"):
            lines.append(f"laco-engine build {path}{at}  # on the {self.elsewhere}; then plan there by measuring")
        threads = f" --threads {candidate.threads}" if self.elsewhere is None else ""
        if candidate.model.language_model is None:
            lines.append(f"laco-engine bench {path}{at}{threads} --batch {candidate.tiles}  # no language model to ask")
        else:
            lines.append(f"laco-engine run {path}{at}{threads} --image FILE --question TEXT")
        return lines


def making(assessed: Assessed) -> list[str]:
    """The commands that make a bundle like the candidate's, from what its manifest says of how it was made."""
    candidate = assessed.candidate
    manifest = candidate.model.bundle.manifest
    vision, decoder = manifest.vision, manifest.decoder
    batches = "" if candidate.batches == [1] else f" --batch {' '.join(map(str, candidate.batches))}"
    target = "" if vision.target == "trt10.3" else f" --target {vision.target}"
    depth = "" if manifest.compression["depth"] is None else f" --at {manifest.compression['depth']}"
    llm = " --no-llm" if decoder is None else f" --llm {decoder.precision}"
    if decoder is not None and decoder.vocabulary is not None:
        llm += " --vocabulary TEXTS"
    floating = vision.precision if vision.calibration is None else "fp32"
    export = f"laco-export --model {shlex.quote(manifest.source['name'])}{depth} --{floating}{batches}{llm}{target}"
    if vision.calibration is None:
        return [export]
    numbers = {"fp8": " --fp8", "w8": " --weights-only int8", "w4": " --weights-only int4"}.get(vision.precision, "")
    return [f"{export} --output fp32", f"laco-calibrate fp32 --images DIR{numbers}"]


def document_of(assessed: Assessed) -> dict:
    """A candidate for ``--json``."""
    text = assessed.text
    return {
        **assessed.candidate.to_dict(),
        "time_ms": assessed.time.to_dict(),
        "encode_ms": assessed.encode.to_dict(),
        "preprocess_ms": None if text is None or not text.preprocess.value else text.preprocess.to_dict(),
        "prefill_ms": None if text is None else text.prefill.to_dict(),
        "token_ms": None if text is None else text.token.to_dict(),
        "memory_bytes": assessed.memory.to_dict(),
        "memory_by_arithmetic": assessed.memory.value,
        "points_lost": None if assessed.drop is None else assessed.drop.to_dict(),
        "misses": [miss.to_dict() for miss in assessed.misses],
    }


def parts_in_words(assessed: Assessed) -> str:
    """``encode 61 ms, preprocess 3 ms, prefill 67 ms, each further token 9.8 ms (measured)``"""
    parts = [("encode", assessed.encode)]
    if assessed.text is not None:
        text = assessed.text
        parts += [("preprocess", text.preprocess), ("prefill", text.prefill), ("each further token", text.token)]
    told = ", ".join(
        f"{name} {in_words(part, in_milliseconds)}" for name, part in parts if part.is_known and part.value
    )
    return f"{told} ({assessed.time.source})"


def reasons(assessed: Assessed) -> str:
    """``212 ms, 62 ms over --budget (measured); …``"""
    return "; ".join(map(_reason, assessed.misses))


def _reason(miss: Miss) -> str:
    spell = {"--budget": in_milliseconds, "--memory": in_gibibytes, "--max-drop": in_points}[miss.limit]
    source = miss.figure.source if miss.figure.is_known else "not measured: by its floor, or one of fewer operations"
    taken = ("" if miss.figure.is_known else "at least ") + spell(miss.least)
    unsure = ""
    if PREDICTED in miss.figure.sources and miss.figure.low <= miss.allowed:
        unsure = f", perhaps not: from {spell(miss.figure.low)}"
    return f"{taken}, {spell(miss.least - miss.allowed)} over {miss.limit} ({source}{unsure})"


def in_words(figure: Figure, spell) -> str:
    """A figure for people: its interval where it has one, bounds where it is not known."""
    if figure.is_known:
        return spell(figure.value) + (f" ({spell(figure.low)} to {spell(figure.high)})" * (figure.low < figure.high))
    if figure.high == float("inf"):
        return f"over {spell(figure.low)}"
    return f"{spell(figure.low)} to {spell(figure.high)}"


def in_milliseconds(value: float) -> str:
    """Three digits: ``1255 ms``, ``84.6 ms``, ``0.12 ms``."""
    return f"{spelled(value)} ms"


def in_gibibytes(value: float) -> str:
    """``2.37 GiB``, ``640 MiB``"""
    return f"{value / (1 << 30):.2f} GiB" if value >= 1 << 30 else f"{value / (1 << 20):.0f} MiB"


def in_points(value: float) -> str:
    """``1.3 points``"""
    return f"{value:.3g} points"


def by_model(assessed: Sequence[Assessed]) -> list[Assessed]:
    """Of each model the way to run it that comes first."""
    first: dict = {}
    for each in assessed:
        first.setdefault(each.candidate.model, each)
    return list(first.values())
