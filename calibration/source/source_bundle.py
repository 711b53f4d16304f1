"""The FP32 bundle that a calibration starts from: given, or exported from a checkpoint first."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from laco_export.bundle import Bundle, open_bundle
from laco_export.console import console
from laco_export.exporter.targets import TARGETS

from ..errors import CalibrationError
from ..options import CalibrationOptions


@contextmanager
def exported(options: CalibrationOptions) -> Iterator[Path]:
    """The checkpoint as an FP32 bundle in a temporary folder beside the output."""
    from laco_export.exporter.options import ExportOptions
    from laco_export.exporter.pipeline import export_bundle

    output = options.output_folder.absolute()
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.export-", dir=output.parent) as folder:
        export = ExportOptions(
            options.model,
            at=options.at,
            target=options.recipe_entry.target,
            precision="fp32",
            output=Path(folder) / options.model.resolve().name,
            compile=False,
        )
        yield export_bundle(export).output


def open_source(folder: Path, options: CalibrationOptions) -> Bundle:
    """A verified bundle that can be calibrated for the recipe.

    Raises:
        CalibrationError: it is calibrated already, not FP32, or written for a reader that the recipe is not for.
        BundleError: it is damaged or no bundle, or its tokenizer cannot be used.
    """
    with console().status("verifying the bundle"):
        bundle = open_bundle(folder)
    vision, recipe = bundle.manifest.vision, options.recipe_entry
    if vision.calibration is not None:
        raise CalibrationError(
            f"bundle '{folder}' is calibrated already: its vision graph is {vision.precision}",
            todo="calibrate the FP32 bundle that it was made from",
        )
    if vision.precision != "fp32":
        raise CalibrationError(
            "calibration starts from FP32",
            given=f"bundle '{folder}' is {vision.precision}",
            todo="export with --fp32, or give the checkpoint with --model",
        )
    if TARGETS[recipe.target].compiled and not TARGETS[vision.target].compiled:
        raise CalibrationError(
            f"recipe {recipe.name} starts from a graph that TensorRT reads",
            given=f"bundle '{folder}' was exported with --target {vision.target}",
            todo=f"export with --fp32 --target {recipe.target}, or calibrate with --recipe cpu",
        )
    _check_language_model(bundle, options)
    return bundle


def _check_language_model(bundle: Bundle, options: CalibrationOptions) -> None:
    """Before any picture is looked at: whether the bundle can be asked what it is to be asked."""
    if bundle.manifest.decoder is not None:
        from laco_engines.prompts.prompter import Prompter

        Prompter(bundle)  # a BundleError where its tokenizer cannot be used
    elif options.questions is not None:
        raise CalibrationError(
            f"bundle '{bundle.path}' has no language model that --questions could be asked",
            todo="leave out --questions, or export again without --no-llm",
        )
