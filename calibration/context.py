"""What every part of a calibration is given."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from laco_export.bundle import Bundle
from laco_export.console import Steps
from laco_export.number_formats import NumberFormat

from .options import CalibrationOptions
from .quantizing import Recipe
from .source.held_out import Division
from .source.picture_set import Pictures


@dataclass(frozen=True)
class Run:
    """One run of the command.

    Attributes:
        bundle: the FP32 bundle that it starts from.
        output, folder: the new bundle's name, and where it is built until it is complete.
        notes: for the manifest and the user; every part adds its own.
    """

    options: CalibrationOptions
    bundle: Bundle
    output: Path
    folder: Path
    pictures: Pictures
    division: Division
    steps: Steps
    notes: list[str] = field(default_factory=list)

    @property
    def recipe(self) -> Recipe:
        return self.options.recipe_entry

    @property
    def number_format(self) -> NumberFormat:
        return self.recipe.formats[self.options.number_format]

    @property
    def half(self) -> bool:
        """Whether the new graph is in half precision where it is not in eight bits."""
        return self.recipe.base == "fp16"

    @property
    def base_graph(self) -> Path:
        """The FP32 graph's file, at batch 1."""
        return self.bundle.file(self.bundle.manifest.vision.graphs[0].file)
