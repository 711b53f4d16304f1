"""A bundle and its reference, loaded in parts that can be switched from the one to the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from laco_export.bundle import Bundle
from laco_export.errors import UsageError
from laco_export.golden import read_golden
from laco_export.token_layouts import pack_tokens

from ..picture_encoder import read_newline
from ..prompts.prompter import Prompt, Prompter
from ..runtimes import VisionRuntime, open_runtime
from .drift_questions import DriftQuestion
from .switched_answers import SwitchedAnswers
from .switched_tower import SwitchedTower
from .tower_parts import tower_parts

PREPROCESSING, MODEL, VOCABULARY = "resizing and normalising", "language model", "vocabulary"
"""The parts around the tower's."""

SwitchedOn = frozenset[str]
"""The parts that are the bundle's; the others are the reference's."""

Features = list[np.ndarray]
"""What stands in a prompt for each visual, float32 ``[tokens, D]``."""


@dataclass(frozen=True)
class AttributionOptions:
    """How drift is attributed.

    Attributes:
        each_block: each block of the tower is a part of its own.
        max_new_tokens: of an answer.
        runtime, text_runtime, threads: as of :class:`~laco_engines.answering.Answerer`.
    """

    each_block: bool = False
    max_new_tokens: int = 64
    runtime: str | None = None
    text_runtime: str | None = None
    threads: int | None = None


class SwitchedBundle:
    """Both bundles in parts.

    Args:
        reference, bundle: verified, of one depth, as :func:`~.reference.reference_at_depth` allows them.

    Attributes:
        parts: all of them, in the order in which they compute.
        differing: those that are not the same in both, byte by byte.
        answers: both language models.
        tower: both vision towers, in parts.
        vision: the bundle's tower as it runs; None where its parts are run in arithmetic that no runtime of this
            machine has, which then stands for a device.

    Raises:
        BundleError: one of them cannot be loaded or cut.
        RuntimeMissingError: nothing here runs one of the towers.
    """

    def __init__(self, reference: Bundle, bundle: Bundle, options: AttributionOptions):
        self._prompters = Prompter(reference), Prompter(bundle)
        tower = tower_parts(list(read_golden(bundle).samples), each_block=options.each_block)
        self.tower = SwitchedTower(reference, bundle, tower, threads=options.threads)
        self.vision = self._as_it_runs(bundle, options)
        self.answers = SwitchedAnswers(
            reference,
            bundle,
            self._prompters[False],
            text_runtime=options.text_runtime,
            threads=options.threads,
            max_new_tokens=options.max_new_tokens,
        )
        self._newline = read_newline(reference)
        self._before_the_model = [PREPROCESSING, *(part.name for part in tower)]
        self.parts = [*self._before_the_model, MODEL, VOCABULARY]
        is_same = {
            PREPROCESSING: reference.manifest.preprocessing == bundle.manifest.preprocessing,
            MODEL: self.answers.is_one,
            VOCABULARY: self.answers.is_one or self.answers.is_one_vocabulary,
        }
        self.differing = [part for part in self.parts if not is_same.get(part, self.tower.is_one)]
        self._last: tuple[object, PictureFeatures | None] = None, None

    def _as_it_runs(self, bundle: Bundle, options: AttributionOptions) -> VisionRuntime | None:
        vision = open_runtime(bundle, name=options.runtime, threads=options.threads)
        return None if vision.on_cpu and self.tower.bundle.in_half_arithmetic else vision

    @property
    def mixtures(self) -> Iterator[SwitchedOn]:
        """The reference, the bundle, and each that has one part of the other."""
        every = frozenset(self.differing)
        yield from (frozenset(), every)
        for part in self.differing:
            yield from (frozenset([part]), every - {part})

    def prompts(self, question: DriftQuestion) -> tuple[Prompt, Prompt]:
        """The question as the reference and as the bundle prepare it.

        Raises:
            ImageError, UsageError: it cannot be asked of one of them, or not of both in the same tokens.
        """
        expected, actual = (prompter.prepare(list(question.pictures), question.text) for prompter in self._prompters)
        if not np.array_equal(expected.input_ids, actual.input_ids):
            raise UsageError(
                "the bundle reads the question as other tokens than its reference",
                given=f"{len(actual.input_ids)} tokens",
                allowed=f"{len(expected.input_ids)} tokens",
                todo="export both bundles of the same checkpoint with one version",
            )
        return expected, actual

    def features(self, prompts: tuple[Prompt, Prompt]) -> PictureFeatures:
        """Of a question's pictures; those of the same pictures as last time are not computed again."""
        pictures = [tuple(visual.digest for visual in prompt.visuals) for prompt in prompts]
        if self._last[0] != pictures:
            self._last = pictures, self._computed(prompts)
        return self._last[1]

    def _computed(self, prompts: tuple[Prompt, Prompt]) -> PictureFeatures:
        layouts = prompts[False].layouts
        pack = lambda visuals: [
            pack_tokens(tiles, [layout], self._newline) for tiles, layout in zip(visuals, layouts, strict=True)
        ]
        chains = {self.before_the_model(mixture): [] for mixture in self.mixtures}
        for pair in zip(*(prompt.visuals for prompt in prompts), strict=True):
            by_tile = [
                self._on_tile(chains, *tiles) for tiles in zip(*(visual.pixel_values for visual in pair), strict=True)
            ]
            for choices, visuals in chains.items():
                visuals.append(np.stack([tile[choices] for tile in by_tile]))  # [tiles, T, D]
        running = None
        if self.vision is not None:
            running = pack([self.vision.encode(visual.pixel_values) for visual in prompts[True].visuals])
        return PictureFeatures({choices: pack(visuals) for choices, visuals in chains.items()}, running)

    def _on_tile(self, chains, of_reference: np.ndarray, of_bundle: np.ndarray) -> dict[tuple[bool, ...], np.ndarray]:
        tile = self.tower.on_tile(of_reference, of_bundle)
        return {choices: tile.features(choices) for choices in chains}

    def before_the_model(self, mixture: SwitchedOn) -> tuple[bool, ...]:
        """Which of the parts that make the features are the bundle's."""
        return tuple(part in mixture for part in self._before_the_model)

    def remarks(self) -> list[str]:
        """What makes the numbers say less than they seem to."""
        if self.vision is None:
            return [
                "ONNX Runtime computes half graphs in FP32 on a CPU: the tower was run in real half arithmetic, as a "
                "device would"
            ]
        if self.tower.bundle.is_half_in_fp32:
            return [
                "the tower's half precision does not show: ONNX Runtime computes it in FP32 on a CPU, and the packages "
                "for real half arithmetic are not installed (pip install 'laco-export[cpu]')"
            ]
        return []


@dataclass(frozen=True)
class PictureFeatures:
    """Features of a question's pictures.

    Attributes:
        by_choices: by which parts before the language model are the bundle's.
        running: the bundle's as its runtime gives them; None where that does not count.
    """

    by_choices: dict[tuple[bool, ...], Features]
    running: Features | None
