"""What a figure of the report is of: bundles by their hashes, the machine, the versions, the command."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from laco_export import __version__
from laco_export.bundle import Bundle
from laco_export.machine import library_versions
from laco_export.summary import merge_in_words
from laco_export.verified_files import sha256_of

from ..devices.state import machine_state

_LIBRARIES = (
    *("onnxruntime", "onnxruntime-gpu", "tensorrt", "tensorrt-rtx"),
    *("optimum-onnx", "transformers", "torch", "tokenizers", "numpy", "pillow"),
)


def bundle_provenance(bundle: Bundle) -> dict[str, str]:
    """Label → text of what identifies one bundle; its files were verified against these hashes when it was opened."""
    manifest = bundle.manifest
    calibration = manifest.vision.calibration
    lines = {
        "folder": str(bundle.path),
        "manifest SHA-256": bundle.manifest_entry["sha256"] if bundle.manifest_entry else "",
        "checkpoint": f"{manifest.source['name']}, SHA-256 {manifest.source['sha256']}",
        "vision graph SHA-256": bundle.graph_sha256(manifest.vision.graphs[0]),
        "merge": merge_in_words(manifest.compression),
        "vision tower": f"{manifest.vision.precision} for {manifest.vision.target}, opset {manifest.vision.opset}",
        "language model": f"{manifest.decoder.model_type}, {manifest.decoder.precision}",
        "exported by": f"laco-export {manifest.tool_version}, with "
        + ", ".join(f"{name} {version}" for name, version in sorted(manifest.libraries.items())),
    }
    if calibration:
        lines["calibrated"] = f"{calibration.get('number_format')}, {calibration.get('method')}"
    return {label: text for label, text in lines.items() if text}


def run_provenance(
    command: str,
    questions: Path,
    pictures: Sequence[Path],
    folder: Path,
    threads: int,
    *,
    chart: Path | None = None,
) -> dict[str, str]:
    """The same of the run: what was asked, by what, where."""
    versions = ", ".join(f"{name} {version}" for name, version in library_versions(_LIBRARIES).items())
    return {
        "command": command,
        "questions": f"{questions.name}, SHA-256 {sha256_of(questions)}",
        "pictures": f"{len(pictures)} in {folder}, SHA-256 over their hashes {_digest_of(pictures)}",
        **({"chart": f"{chart.name}, SHA-256 {sha256_of(chart)}"} if chart else {}),
        "made by": f"laco-export {__version__}",
        "libraries": versions,
        "machine": machine_state().summary,
        "CPU threads": str(threads),
    }


def _digest_of(pictures: Sequence[Path]) -> str:
    hashes = "\n".join(sha256_of(picture) for picture in pictures)
    return hashlib.sha256(hashes.encode()).hexdigest()
