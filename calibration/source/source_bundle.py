"""The FP32 bundle that a calibration starts from: given, or exported from a checkpoint first."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from laco_export.bundle import Bundle, Manifest, open_bundle
from laco_export.carried_depths import depth_name
from laco_export.console import progress
from laco_export.exporter.targets import TARGETS

from ..errors import CalibrationError


@contextmanager
def exported(checkpoint: Path, *, at: str | None, target: str, beside: Path) -> Iterator[Path]:
    """The checkpoint as an FP32 bundle in a temporary folder.

    Args:
        at: the depth of the merge; None takes the checkpoint's first.
        target: who will read the graph, a name of :data:`~laco_export.exporter.targets.TARGETS`.
        beside: the calibration's output: the temporary folder stands in the same folder.
    """
    from laco_export.exporter.options import ExportOptions
    from laco_export.exporter.pipeline import export_bundle

    output = beside.absolute()
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.export-", dir=output.parent) as folder:
        options = ExportOptions(
            checkpoint,
            at=at,
            target=target,
            precision="fp32",
            output=Path(folder) / checkpoint.resolve().name,
            compile=False,
        )
        yield export_bundle(options).output


def open_source_bundle(folder: Path, target: str, *, asks_questions: bool, at: str | None = None) -> Bundle:
    """A verified bundle that can be calibrated for ``target``, at one depth.

    Args:
        at: the depth, of a bundle of several.
        target: a name of :data:`~laco_export.exporter.targets.TARGETS`.
        asks_questions: questions were given, which a language model must answer.

    Raises:
        DepthError: it does not carry ``at``.
        CalibrationError: it has several depths and none is named; it is calibrated already, not FP32, or written for a
            reader with operators that ``target`` does not read.
        BundleError: it is damaged or no bundle, or its tokenizer cannot be used.
    """
    with progress("verifying the bundle", transient=True):
        bundle = open_bundle(folder, at)
    check_manifest(bundle.manifest, folder, target, asks_questions=asks_questions)
    if bundle.manifest.decoder is not None:
        from laco_engines.prompts.prompter import Prompter

        Prompter(bundle)  # before any picture is observed: a BundleError where its tokenizer cannot be used
    return bundle


def check_manifest(manifest: Manifest, folder: Path, target: str, *, asks_questions: bool) -> None:
    """Refuse a bundle that cannot be calibrated for ``target``, by its manifest alone.

    Raises:
        CalibrationError: see :func:`open_source_bundle`.
    """
    if manifest.depths:
        raise CalibrationError(
            "a calibration is of one depth",
            given=f"bundle '{folder}' has several",
            allowed=", ".join(f"--at {depth_name(compression)}" for compression in manifest.compressions),
            todo="calibrate each by itself",
        )
    vision = manifest.vision
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
    _require_readable(manifest, folder, target)
    if manifest.decoder is None and asks_questions:
        raise CalibrationError(
            f"bundle '{folder}' has no language model that --questions could be asked",
            todo="leave out --questions, or export again without --no-llm",
        )


def _require_readable(manifest: Manifest, folder: Path, target: str) -> None:
    """Refuse a graph that was written for another reader than ``target``, in an opset that ``target`` does not read.

    ONNX Runtime reads the graphs of every target. TensorRT does not read those of ``ort-cpu``, whatever their opset.
    """
    vision, reader = manifest.vision, TARGETS[target]
    if not reader.compiled:
        return
    by_tensorrt = TARGETS[vision.target].compiled
    if not by_tensorrt or vision.opset > reader.opsets[-1]:
        raise CalibrationError(
            f"a calibration for --target {target} starts from a graph that {target} reads",
            given=f"bundle '{folder}' was exported with --target {vision.target} (opset {vision.opset})",
            allowed=f"--target {vision.target} or ort-cpu" if by_tensorrt else f"--target {vision.target}",
            todo=f"leave out --target, or export with --fp32 --target {target}",
        )
