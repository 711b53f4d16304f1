"""``laco-engine inspect``: what a bundle says about itself, verified before it is printed."""

from __future__ import annotations

import argparse
import json
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
    vision, decoder, compression = manifest.vision, manifest.decoder, manifest.compression
    lines = [
        ("made by", f"laco-export {manifest.tool_version} (schema {manifest.schema_version})"),
        ("checkpoint", _pairs(manifest.source)),
        ("encoder", _pairs(manifest.encoder)),
        ("compression", _pairs(compression)),
        ("vision", f"{vision.precision}, opset {vision.opset}{_count(vision.nodes)}"),
    ]
    lines += [("", f"{graph.file}: {_tensor(graph.input)} -> {_tensor(graph.output)}") for graph in vision.graphs]
    lines += [("rewrite", f"{rewrite['name']}: {rewrite['fired']} times") for rewrite in vision.rewrites]
    lines += [("kept in FP32", _pairs(entry)) for entry in vision.kept_fp32]
    if decoder is None:
        lines.append(("language model", "none in this bundle"))
    else:
        lines.append(
            (
                "language model",
                f"{decoder.model_type}, {decoder.precision}, hidden {decoder.hidden_size}, "
                f"vocabulary {decoder.vocab_size}, context {decoder.context_length}",
            )
        )
    lines += [("accuracy", _pairs({"of": name, **_flat(value)})) for name, value in manifest.accuracy.items()]
    lines += [("note", note) for note in manifest.notes]
    size = sum(entry["bytes"] for entry in manifest.files.values())
    lines.append(("files", f"{len(manifest.files)}, {size:,} bytes, all verified"))
    lines += [("", f"{entry['bytes']:>13,}  {name}") for name, entry in manifest.files.items()]
    return lines


def _tensor(spec) -> str:
    return f"{spec.name} {spec.dtype}{list(spec.shape)}"


def _count(nodes: dict[str, int]) -> str:
    return f", {sum(nodes.values())} nodes" if nodes else ""


def _pairs(values: dict) -> str:
    return ", ".join(f"{name} {_value(value)}" for name, value in values.items())


def _value(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _flat(value: object) -> dict:
    if isinstance(value, list):
        return {"entries": len(value)}
    return value if isinstance(value, dict) else {"value": value}


INSPECT = Command("inspect", "show and verify what a bundle says about itself", _add_arguments, _run)
