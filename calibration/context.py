"""What every step of a calibration is given."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from laco_export.bundle import Bundle
from laco_export.console import Steps
from laco_export.number_formats import NumberFormat
from laco_export.onnx_session import products_saturate

from .options import CalibrationOptions
from .quantizing import Placement, QuantizedForm
from .source.held_out import Division
from .source.picture_set import PictureFile, PictureSet


@dataclass(frozen=True)
class CalibrationContext:
    """What a calibration starts from and where it goes.

    Attributes:
        bundle: the FP32 bundle.
        output, folder: the new bundle's name, and where it is built until it is complete.
        picture_set, division: the pictures, and which of them judge and which are observed.
        steps: the work as the user sees it.
        notes: for the manifest and the user; every step adds its own.
    """

    options: CalibrationOptions
    bundle: Bundle
    output: Path
    folder: Path
    picture_set: PictureSet
    division: Division
    steps: Steps
    notes: list[str] = field(default_factory=list)

    @property
    def form(self) -> QuantizedForm:
        """How the target's graphs are quantised."""
        return self.options.form

    @property
    def number_format(self) -> NumberFormat:
        return self.form.portable if self.options.portable else self.form.formats[self.options.number_format]

    @property
    def format_here(self) -> NumberFormat:
        """The one that this processor will run, of the graph's and its twin's."""
        twin = self.options.twin_format
        return twin if twin is not None and products_saturate() else self.number_format

    @property
    def weights_only(self) -> bool:
        """Whether activations stay as they are, so that nothing about them is needed."""
        return self.number_format.activations is None

    @property
    def half(self) -> bool:
        """Whether the new graph is in half precision where it is not in eight bits."""
        return self.form.base == "fp16"

    @property
    def base_graph(self) -> Path:
        """The FP32 graph's file, at batch 1."""
        return self.bundle.file(self.bundle.manifest.vision.graphs[0].file)

    def unseen_judges(self, calibrated_on: Collection[str]) -> list[PictureFile]:
        """The judging pictures that are not among those of the SHA-256s ``calibrated_on``; all for weights alone."""
        seen = () if self.weights_only else {*calibrated_on, *(picture.sha256 for picture in self.division.observed)}
        return [picture for picture in self.division.judging if picture.sha256 not in seen]

    @property
    def golden_seen(self) -> tuple[str, ...]:
        """The golden pictures that are calibrated on too; none for weights alone."""
        return () if self.weights_only else self.division.golden_seen

    def placement(self, blocks: Collection[str], ranges: Mapping[str, tuple[float, float]]) -> Placement:
        """What is quantised where ``blocks`` are, to ``ranges`` (input → the range that is kept of it)."""
        return Placement(self.number_format, blocks, ranges, {}, self.options.attention)
