"""What a calibration is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from laco_export.bundle import read_manifest
from laco_export.console import console
from laco_export.errors import UsageError
from laco_export.exporter.targets import TARGETS

from .quantizing import RECIPES, Recipe
from .statistics.thresholds import METHODS

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
        bundle: an FP32 bundle; or ``model``: a checkpoint, exported in FP32 first (at depth ``at``).
        images: folders, files, lists, or training data (``--images``).
        questions: conversations to ask both bundles (``--questions``); None takes those of ``images`` where it has any.
        recipe: whose kernels the graph is for (``--recipe``), a name of :data:`~.quantizing.RECIPES`; None leaves it
            to the bundle (see :func:`~.options.with_recipe`).
        method: how ranges are chosen (``--method``), a name of :data:`~.statistics.thresholds.METHODS`.
        max_drop: points that may be lost (``--max-drop``): 100·(1 - cosine) and 100·|norm ratio - 1| at the projector
            on the worst judging picture, and right answers where there are questions with answers.
        number_format: ``int8``, ``fp8`` (``--fp8``), ``w8`` or ``w4`` (``--weights-only``).
        all_int8: every block in eight bits, whatever it costs or gains (``--all-int8``).
        attention: attention's MatMuls too, where the sequence is at most
            :data:`~.graph.linear_layers.MAX_ATTENTION_TOKENS` long (``--attention``; recipe tensorrt).
        smoothing: look for outlier channels and fold them away (``--no-smoothing`` turns it off).
        statistics: what earlier calibrations of this bundle saw (``--statistics``), added up; pictures of ``images``
            that they have not seen are added to them.
        smoothing_of: the ``calibration.json`` whose smoothing is used (``--smoothing-of``), so that what two runs see
            can be merged.
        limit: at most so many pictures (``--limit``), evenly spaced; None takes all.
        ask: at most so many questions.
        compile: let TensorRT build the graphs of recipe tensorrt, where one is installed (``--no-compile``).
    """

    bundle: Path | None = None
    model: Path | None = None
    at: str | None = None
    images: list[Path] = field(default_factory=list)
    questions: Path | None = None
    recipe: str | None = None
    method: str = "mse"
    max_drop: float = 1.0
    number_format: str = "int8"
    all_int8: bool = False
    attention: bool = False
    smoothing: bool = True
    statistics: list[Path] = field(default_factory=list)
    smoothing_of: Path | None = None
    limit: int | None = None
    ask: int = 300
    compile: bool = True
    output: Path | None = None
    force: bool = False
    resume: bool = False

    def __post_init__(self) -> None:
        if (self.bundle is None) == (self.model is None):
            raise UsageError("give either an FP32 bundle or --model CKPT")
        if self.at is not None and self.model is None:
            raise UsageError("--at goes with --model: a bundle has one depth", given=f"--at {self.at}")
        if not self.images:
            raise UsageError(
                "calibration needs real pictures",
                allowed="--images with a folder, picture files, a .txt list, or the training data's .json",
            )
        for name, value, allowed in (("--recipe", self.recipe, [None, *RECIPES]), ("--method", self.method, METHODS)):
            if value not in allowed:
                raise UsageError(f"{name} is not known", given=value, allowed=", ".join(filter(None, allowed)))
        if self.recipe is not None:
            self._check_recipe()
        if self.smoothing_of is not None and (self.statistics or not self.smoothing):
            raise UsageError("--smoothing-of excludes --statistics, which bring their own, and --no-smoothing")
        if not 0 < self.max_drop <= 100:
            raise UsageError("--max-drop is a number of points above 0, at most 100", given=self.max_drop)
        if self.limit is not None and self.limit < 1:
            raise UsageError("--limit must be at least 1", given=self.limit)
        if self.force and self.resume:
            raise UsageError("--resume goes on with what is there and --force starts over: give one of them")

    def _check_recipe(self) -> None:
        """Refuse what the recipe does not offer."""
        if self.number_format not in self.recipe_entry.formats:
            raise UsageError(
                f"recipe {self.recipe} does not offer {_ASKED_BY[self.number_format]}",
                allowed=", ".join(_ASKED_BY[name] for name in self.recipe_entry.formats),
            )
        if self.attention and not (self.recipe_entry.takes_attention and self.number_format in ("int8", "fp8")):
            raise UsageError("--attention is for recipe tensorrt in INT8 or FP8", given=f"--recipe {self.recipe}")

    @property
    def recipe_entry(self) -> Recipe:
        """The entry of :data:`~.quantizing.RECIPES` that ``recipe`` names, which is chosen by now."""
        return RECIPES[self.recipe]

    @property
    def output_folder(self) -> Path:
        """``output``, or ``./<bundle's or checkpoint's name>-int8-tensorrt``, without what the name says of
        the export's precision and target."""
        if self.output is not None:
            return self.output
        name = (self.bundle or self.model).resolve().name.removesuffix("-ort-cpu").removesuffix("-fp32")
        return Path(f"{name}-{self.number_format}-{self.recipe}")

    @property
    def progress_file(self) -> Path:
        """Where the statistics grow while pictures are looked at: beside the output."""
        output = self.output_folder.absolute()
        return output.parent / f".{output.name}.calibration.json"


def with_recipe(options: CalibrationOptions) -> tuple[CalibrationOptions, list[str]]:
    """The options with a recipe, and a note where the bundle chose it.

    A graph that only ONNX Runtime reads gets ``cpu``; one that TensorRT reads, and a checkpoint, ``tensorrt``.

    Raises:
        UsageError: the recipe does not offer what is asked for.
        BundleError: no bundle.
    """
    if options.recipe is not None:
        return options, []
    if options.model is not None:
        return replace(options, recipe="tensorrt"), []
    target = read_manifest(options.bundle).vision.target
    if TARGETS[target].compiled:
        return replace(options, recipe="tensorrt"), []
    note = f"recipe cpu, since the bundle was exported with --target {target}"
    console().print(note)
    return replace(options, recipe="cpu"), [note]
