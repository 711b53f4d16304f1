"""A whole bundle beside what PyTorch computed at export: every part on the runtime at hand. The comparison itself needs
no PyTorch.

    check = check_bundle(bundle, runtime=None, threads=None)
    check.passed; check.tower.summary(); check.parts

The vision tower with its projector is compared on the golden pictures, the embedding and the decoder each by itself,
and the whole by the golden answers, on the text runtime that is asked for.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from laco_export.bundle import Bundle
from laco_export.golden import GoldenPictures, read_golden
from laco_export.golden_answers import read_golden_answers

from .answering import Answerer
from .comparison.decoder_check import check_decoder, open_decoder_session
from .comparison.golden_check import GoldenCheck, compare_features, compare_samples, pixel_values
from .comparison.part_check import PartCheck
from .packages import PACKAGES, installed_version
from .runtimes import RuntimeMissingError, VisionRuntime, open_runtime
from .trial import FeaturesHere, check_answers, check_newline, pictures_asked_about


@dataclass(frozen=True)
class BundleCheck:
    """A bundle's parts against PyTorch.

    Attributes:
        tower: the vision tower with its projector.
        parts: the rest, each with its verdict.
        not_compared: what could not be compared, and why.
        text_runtime: what the answers were asked of, for people; None where none were.
    """

    tower: GoldenCheck
    parts: list[PartCheck]
    not_compared: list[str]
    text_runtime: str | None = None

    @property
    def passed(self) -> bool:
        return self.tower.passed and all(part.passed for part in self.parts)

    @property
    def first_failing(self) -> str | None:
        """The first part out of tolerance: a block before the features, those before the language model."""
        if self.tower.first_failing is not None:
            return self.tower.first_failing.name
        return next((part.part for part in self.parts if not part.passed), None)

    def to_dict(self) -> dict:
        """The ``--json`` document."""
        return {
            **self.tower.to_dict(),
            "passed": self.passed,
            "first_failing": self.first_failing,
            "parts": [part.to_dict() for part in self.parts],
            "not_compared": self.not_compared,
            "text_runtime": self.text_runtime,
        }


def check_depths(
    bundle: Bundle,
    *,
    runtime: str | None = None,
    text_runtime: str | None = None,
    threads: int | None = None,
    **further,
) -> dict[str, BundleCheck]:
    """:func:`check_bundle` at each depth that the bundle carries, over one language model and a tower at a time."""
    on = {"runtime": runtime, "text_runtime": text_runtime, "threads": threads}
    if len(bundle.depths) == 1:
        return {bundle.depths[0]: check_bundle(bundle, **on, **further)}
    checks, answerer = {}, None
    for depth in bundle.depths:
        view = bundle.at(depth)
        if answerer is not None:
            answerer.let_go_of_tower()
            answerer = answerer.at(depth)
        elif view.manifest.golden_answers is not None and not _missing_packages():
            answerer = Answerer(bundle, at=depth, **on)
        checks[depth] = check_bundle(view, **on, **further, answerer=answerer)
    return checks


def check_bundle(
    bundle: Bundle,
    *,
    runtime: str | None = None,
    text_runtime: str | None = None,
    threads: int | None = None,
    checkpoint: Path | None = None,
    images: list[Path] | None = None,
    blocks: bool = False,
    answerer: Answerer | None = None,
) -> BundleCheck:
    """Compare all parts of a verified bundle, at its first depth where it has several.

    Args:
        answerer: the bundle, where it is loaded already as asked for.
        runtime: of the vision tower, by name; default: the best that is there.
        text_runtime: that answers, by name; default: the best that is there.
        threads: CPU threads; default: the cores that this process may use.
        checkpoint: compare the tower with PyTorch run now on this checkpoint, and not with the golden features.
        images: other pictures for that.
        blocks: compare each block too; without, only where the features are out of tolerance.

    Raises:
        BundleError, UsageError: the bundle or what was asked cannot be used.
        RuntimeMissingError: no runtime for the vision tower.
        TextRuntimeMissingError: the text runtime asked for is not installed.
    """
    golden = read_golden(bundle)
    answers = read_golden_answers(bundle, len(golden.names))
    missing = _missing_packages()
    if answers is not None and not missing and answerer is None:
        answerer = Answerer(bundle, runtime=runtime, text_runtime=text_runtime, threads=threads)
    vision = answerer.vision if answerer else open_runtime(bundle, name=runtime, threads=threads)
    tower = _check_tower(bundle, vision, golden, checkpoint, images, blocks)
    if answers is None:
        return BundleCheck(tower, [], [_without_answers(bundle)])
    session = answerer.text.session if answerer else open_decoder_session(bundle, threads=threads)
    parts = check_decoder(bundle, session, golden, answers)
    if answerer is None:
        parts += check_newline(bundle, answers)
        return BundleCheck(tower, parts, [f"the golden answers: {', '.join(missing)} is not installed to answer with"])
    here = FeaturesHere.computed(bundle, golden, pictures_asked_about(answers), vision)
    return BundleCheck(tower, [*parts, *check_answers(answerer, golden, answers, here)], [], answerer.text.name)


def _missing_packages() -> list[str]:
    """What answering needs, and is not installed."""
    return [package.name for package in PACKAGES if package.needed and installed_version(package) is None]


def _without_answers(bundle: Bundle) -> str:
    if bundle.manifest.decoder is None:
        return "a language model: the bundle has none"
    return "the language model: the bundle has no golden answers (an earlier version's has none; export it again)"


def _check_tower(
    bundle: Bundle,
    vision: VisionRuntime,
    golden: GoldenPictures,
    checkpoint: Path | None,
    images: list[Path] | None,
    blocks: bool,
) -> GoldenCheck:
    names, pictures, features, samples = golden.names, golden.pictures, golden.image_features, golden.samples
    against = "PyTorch at export"
    if checkpoint is not None:
        from .comparison.pytorch_reference import features_and_samples, prepared_pictures

        if images:
            names, pictures = prepared_pictures(bundle, images)
        features, samples = features_and_samples(bundle, checkpoint, pixel_values(bundle, pictures), samples)
        against = f"PyTorch ({checkpoint})"
    pixels = pixel_values(bundle, pictures)
    compared = compare_features(bundle, names, features, vision.encode(pixels))
    whole = GoldenCheck(vision.name, against, compared, [])
    if not blocks and (whole.passed or not vision.on_cpu):
        return whole
    from .comparison.marked_graph import boundary_tensors

    try:
        tensors = boundary_tensors(bundle, pixels, list(samples))
    except RuntimeMissingError:
        if blocks:
            raise
        return whole
    return GoldenCheck(vision.name, against, compared, compare_samples(bundle, samples, tensors))
