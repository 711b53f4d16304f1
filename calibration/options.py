"""What a calibration is asked to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path

from laco_export.bundle import read_manifest
from laco_export.errors import BundleError, UsageError
from laco_export.exporter.targets import DEFAULT_TARGET, TARGETS
from laco_export.merge_path import DepthPath
from laco_export.number_formats import NumberFormat

from .quantizing import FORMS, QuantizedForm
from .statistics.thresholds import AUTO, METHODS

_ASKED_BY = {
    "int8": "INT8 (the default)",
    "fp8": "--fp8",
    "w8": "--weights-only int8",
    "w4": "--weights-only int4",
}
"""Number format → what asks for it."""


@dataclass(frozen=True)
class CalibrationOptions:
    """Validated when made.

    Attributes:
        bundle: an FP32 bundle; or ``model``: a checkpoint, exported in FP32 first.
        at: the depth (``--at``) of a bundle of several, or to export the checkpoint at.
        images: folders, files, lists, or training data (``--images``).
        questions: conversations to ask both bundles (``--questions``); None takes those of ``images`` where it has any.
        target: who will read the graph (``--target``), a name of :data:`~laco_export.exporter.targets.TARGETS`; None
            leaves it to the bundle (see :func:`with_target`).
        method: how ranges are chosen (``--method``): a name of :data:`~.statistics.thresholds.METHODS`, or ``auto``,
            which takes for each block the better of two.
        max_drop: points that may be lost (``--max-drop``): 100·(1 - cosine) and 100·|norm ratio - 1| at the projector
            on the worst judging picture, and right answers where there are questions with answers.
        number_format: ``int8``, ``fp8`` (``--fp8``), ``w8`` or ``w4`` (``--weights-only``).
        all_int8: every block in eight bits, whatever it costs or gains (``--all-int8``).
        portable: weights of seven bits alone (``--portable``; ``ort-cpu``, INT8): one graph that is exact and fast on
            processors with and without VNNI, in the place of two.
        attention: attention's MatMuls too, where the sequence is at most
            :data:`~.graph.linear_layers.MAX_ATTENTION_TOKENS` long (``--attention``; TensorRT's targets).
        smoothing: look for outlier channels and fold them away (``--no-smoothing`` turns it off).
        statistics: what earlier calibrations of this bundle saw (``--statistics``), added up; pictures of ``images``
            that they have not seen are added to them.
        smoothing_of: the ``calibration.json`` whose smoothing is used (``--smoothing-of``), so that what two runs see
            can be merged.
        limit: at most so many pictures (``--limit``), evenly spaced; None takes all.
        compile: let TensorRT build the graphs for it, where one is installed (``--no-compile`` turns it off).
    """

    bundle: Path | None = None
    model: Path | None = None
    at: str | None = None
    images: list[Path] = field(default_factory=list)
    questions: Path | None = None
    target: str | None = None
    method: str = AUTO
    max_drop: float = 1.0
    number_format: str = "int8"
    all_int8: bool = False
    portable: bool = False
    attention: bool = False
    smoothing: bool = True
    statistics: list[Path] = field(default_factory=list)
    smoothing_of: Path | None = None
    limit: int | None = None
    compile: bool = True
    output: Path | None = None
    force: bool = False
    resume: bool = False

    def __post_init__(self) -> None:
        if (self.bundle is None) == (self.model is None):
            raise UsageError("give either an FP32 bundle or --model CKPT")
        if self.at is not None:
            DepthPath.parse(self.at)
        if not self.images:
            raise UsageError(
                "calibration needs real pictures",
                allowed="--images with a folder, picture files, a .txt list, or the training data's .json",
            )
        for name, choice, allowed in (
            ("--target", self.target, [None, *FORMS]),
            ("--method", self.method, [AUTO, *METHODS]),
        ):
            if choice not in allowed:
                raise UsageError(f"{name} is not known", given=choice, allowed=", ".join(filter(None, allowed)))
        if self.target is not None:
            self._check_form()
        if self.smoothing_of is not None and (self.statistics or not self.smoothing):
            raise UsageError("--smoothing-of excludes --statistics, which bring their own, and --no-smoothing")
        if not 0 < self.max_drop <= 100:
            raise UsageError("--max-drop is a number of points above 0, at most 100", given=self.max_drop)
        if self.limit is not None and self.limit < 1:
            raise UsageError("--limit must be at least 1", given=self.limit)
        if self.force and self.resume:
            raise UsageError("--resume goes on with what is there and --force starts over: give one of them")

    def _check_form(self) -> None:
        """Refuse what is not offered for the target."""
        if self.number_format not in self.form.formats:
            raise UsageError(
                f"--target {self.target} does not offer {_ASKED_BY[self.number_format]}",
                allowed=", ".join(_ASKED_BY[name] for name in self.form.formats),
            )
        if self.form.opset[self.number_format] > TARGETS[self.target].opsets[-1]:
            raise UsageError(
                f"--target {self.target} does not read the operators of {_ASKED_BY[self.number_format]}",
                given=f"opset {self.form.opset[self.number_format]}",
                allowed=", ".join(_targets_that_read(self.number_format)),
            )
        if self.portable and not (self.form.portable and self.number_format == "int8"):
            raise UsageError(
                "--portable is for INT8 on a CPU: what other graphs compute does not depend on VNNI",
                given=f"--target {self.target}, {_ASKED_BY[self.number_format]}",
                allowed="--target ort-cpu",
            )
        if self.attention and not (self.form.takes_attention and self.number_format in ("int8", "fp8")):
            raise UsageError("--attention is for TensorRT in INT8 or FP8", given=f"--target {self.target}")

    @property
    def form(self) -> QuantizedForm:
        """How the target's graphs are quantised, of :data:`~.quantizing.FORMS`; the target is chosen by now."""
        return FORMS[self.target]

    @property
    def twin_format(self) -> NumberFormat | None:
        """Of the graph beside it, for processors whose product of uint8 and int8 saturates; None without one."""
        return self.form.portable if self.number_format == "int8" and not self.portable else None

    @property
    def output_folder(self) -> Path:
        """``output``, or ``./<bundle's or checkpoint's name>-int8``, without what the name says of the export's
        precision and target (``-ort-cpu`` at the end for another target than the default)."""
        if self.output is not None:
            return self.output
        name = (self.bundle or self.model).resolve().name
        for target in TARGETS:
            name = name.removesuffix(f"-{target}")
        reader = "" if self.target == DEFAULT_TARGET else f"-{self.target}"
        name = name.removesuffix("-fp32")
        several = self.bundle is not None and self.at is not None
        if several and (where := f"at{DepthPath.parse(self.at).slug}") not in name.split("-"):
            name = f"{name}-{where}"
        return Path(f"{name}-{self.number_format}{reader}")

    @property
    def progress_file(self) -> Path:
        """Where the statistics grow while pictures are observed: beside the output."""
        output = self.output_folder.absolute()
        return output.parent / f".{output.name}.calibration.json"


def source_target_of(options: CalibrationOptions) -> str:
    """Who reads the FP32 graph that is started from: the bundle's target, or what a checkpoint is exported for.

    Raises:
        BundleError: no bundle, or one for a reader that is not known here.
    """
    if options.model is not None:
        return options.target or DEFAULT_TARGET
    target = read_manifest(options.bundle).vision.target
    if target not in TARGETS:
        raise BundleError(
            f"bundle '{options.bundle}' was exported for a reader that this version does not know",
            given=f"vision.target {target}",
            allowed=", ".join(TARGETS),
            todo="export it again",
        )
    return target


def with_target(
    options: CalibrationOptions, source_target: str, *, tell: Callable[[str], None] = lambda note: None
) -> tuple[CalibrationOptions, list[str]]:
    """The options with a target, and a note where it was not asked for and is not the default.

    Without ``--target`` it is ``source_target``, or where that does not read the number format's operators the first of
    its family that does.

    Args:
        tell: called with the note (the command says it), before the target is held to what is asked for.

    Raises:
        UsageError: the target does not offer what is asked for.
    """
    if options.target is not None:
        return options, []
    form = FORMS[source_target]
    family = [source_target, *(name for name in TARGETS if FORMS[name] is form)]
    reads = _targets_that_read(options.number_format)
    target = next((name for name in family if name in reads), source_target)
    if target == DEFAULT_TARGET:
        return replace(options, target=target), []
    why = "the bundle's" if target == source_target else f"the first that reads {_ASKED_BY[options.number_format]}"
    note = f"calibrated for --target {target}, {why}"
    tell(note)
    return replace(options, target=target), [note]


def _targets_that_read(number_format: str) -> list[str]:
    """Targets whose form offers the number format, in an opset that they read."""
    return [
        name
        for name, form in FORMS.items()
        if number_format in form.formats and form.opset[number_format] <= TARGETS[name].opsets[-1]
    ]
