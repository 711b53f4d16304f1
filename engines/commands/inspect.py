"""``laco-engine inspect``: what a bundle says about itself, verified before it is printed."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path

from .command import Command


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=Path, metavar="BUNDLE", help="a folder written by laco-export")
    parser.add_argument("--json", action="store_true", help="the manifest as JSON")


def _run(args: argparse.Namespace) -> None:
    from dataclasses import asdict

    from laco_export.bundle import open_bundle
    from laco_export.console import console

    with console().status("verifying the bundle"):
        manifest = open_bundle(args.bundle).manifest
    if args.json:
        print(json.dumps(asdict(manifest), indent=2, ensure_ascii=False))
        return
    for label, value in _lines(manifest):
        print(f"{label:<16}{value}")


def _lines(manifest) -> list[tuple[str, str]]:
    """``(label, text)`` of each line; an empty label continues the one above."""
    lines = [
        ("made by", f"laco-export {manifest.tool_version} (schema {manifest.schema_version})"),
        ("checkpoint", _pairs(manifest.source)),
        ("encoder", _pairs(manifest.encoder)),
        ("compression", _pairs(manifest.compression)),
        *_vision_lines(manifest.vision),
        ("language model", _decoder_line(manifest.decoder)),
        *_accuracy_lines(manifest.accuracy),
        *(("note", note) for note in manifest.notes),
    ]
    size = sum(entry["bytes"] for entry in manifest.files.values())
    lines.append(("files", f"{len(manifest.files)}, {size:,} bytes, all verified"))
    lines += [("", f"{entry['bytes']:>13,}  {name}") for name, entry in manifest.files.items()]
    return lines


def _vision_lines(vision) -> list[tuple[str, str]]:
    nodes = f", {sum(vision.nodes.values())} nodes" if vision.nodes else ""
    lines = [("vision", f"{vision.precision}, opset {vision.opset}{nodes}")]
    lines += [("", f"{graph.file}: {_tensor(graph.input)} -> {_tensor(graph.output)}") for graph in vision.graphs]
    if vision.rewrites:
        lines.append(("rewrites", ", ".join(f"{rewrite['name']} x{rewrite['fired']}" for rewrite in vision.rewrites)))
    reasons = Counter(entry["reason"] for entry in vision.kept_fp32)
    return lines + [("kept in FP32", f"{count} x {reason}") for reason, count in reasons.items()]


def _decoder_line(decoder) -> str:
    if decoder is None:
        return "none in this bundle"
    return (
        f"{decoder.model_type}, {decoder.precision}, hidden_size {decoder.hidden_size}, "
        f"vocabulary {decoder.vocab_size}, context {decoder.context_length}"
    )


def _accuracy_lines(accuracy: dict) -> list[tuple[str, str]]:
    judged = {"by": accuracy.get("judged_by"), "against": accuracy.get("reference")}
    pictures = accuracy.get("pictures")
    text = " ".join(f"{word} {name}" for word, name in judged.items() if name)
    lines = [("judged", text + (f", {len(pictures)} pictures" if pictures else ""))]
    lines += [("", _comparison(entry["name"], entry)) for entry in accuracy.get("tensors", [])]
    decoder = accuracy.get("decoder", {})
    return lines + [
        ("", _comparison(f"decoder, {part}", decoder[part])) for part in ("whole", "cached") if part in decoder
    ]


def _comparison(name: str, values: dict) -> str:
    shown = f"cosine {values['cosine']:.7f}, norm ratio {values['norm_ratio']:.6f}, max abs {values['max_abs']:.2e}"
    return f"{shown}  {name}"


def _tensor(spec) -> str:
    return f"{spec.name} {spec.dtype}{list(spec.shape)}"


def _pairs(values: dict) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


INSPECT = Command("inspect", "show and verify what a bundle says about itself", _add_arguments, _run)
