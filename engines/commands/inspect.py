"""``laco-engine inspect``: what a bundle says about itself, verified before it is printed."""

from __future__ import annotations

import argparse
from pathlib import Path

from laco_export.standard_streams import print_json
from laco_export.utf8 import path_argument

from .command import Command, add_depth_argument

_JUDGED = (("by", "judged_by"), ("against", "reference"))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", type=path_argument, metavar="BUNDLE", help="a folder written by laco-export")
    add_depth_argument(parser, "its first, and a table of all")
    parser.add_argument(
        "--graph", type=Path, metavar="FILE.png", help="draw the merge's part of the vision graph (needs onnx)"
    )
    parser.add_argument("--json", action="store_true", help="the manifest as JSON")


def _run(args: argparse.Namespace) -> None:
    from dataclasses import asdict

    from rich.console import Console

    from laco_export.bundle import open_bundle
    from laco_export.console import progress
    from laco_export.summary import show_summary

    if args.graph is not None:
        _require_png(args.graph)
    with progress("verifying the bundle", transient=True):
        manifest = open_bundle(args.bundle, args.at).manifest
    if args.graph is not None:
        _draw_graph(args.bundle / manifest.vision.graphs[0].file, args.graph)
    if args.json:
        print_json(asdict(manifest))
        return
    show_summary(manifest, Console(highlight=False), title=str(args.bundle))
    for label, value in _lines(manifest):
        print(f"{label:<16}{value}")
    if args.graph is not None:
        print(f"{'graph':<16}{args.graph}")


def _require_png(picture: Path) -> None:
    from laco_export.errors import UsageError

    if picture.suffix.lower() != ".png":
        raise UsageError("--graph writes a PNG file", given=picture.name, allowed="a name that ends in .png")


def _draw_graph(graph: Path, picture: Path) -> None:
    import io

    from laco_export.atomic import write_bytes

    from ..runtimes.protocol import RuntimeMissingError

    try:
        from ..graph_picture import draw_merge
    except ImportError as error:
        raise RuntimeMissingError(
            f"--graph needs {error.name}, which is not installed", todo="pip install onnx"
        ) from None

    image = io.BytesIO()
    draw_merge(graph).save(image, "png")
    write_bytes(picture, image.getvalue())


def _lines(manifest) -> list[tuple[str, str]]:
    """What the summary leaves out: ``(label, text)`` of each line; an empty label continues the one above."""
    size = sum(entry["bytes"] for entry in manifest.files.values())
    return [
        ("made by", f"laco-export {manifest.tool_version} (schema {manifest.schema_version})"),
        ("checkpoint", _pairs(manifest.source)),
        ("encoder", _pairs(manifest.encoder)),
        ("compression", _pairs(manifest.compression)),
        *_vision_lines(manifest.vision),
        ("language model", _decoder_line(manifest.decoder)),
        *_accuracy_lines(manifest.accuracy),
        ("files", f"{len(manifest.files)}, {size:,} bytes, all verified"),
        *(("", f"{entry['bytes']:>13,}  {name}") for name, entry in manifest.files.items()),
    ]


def _vision_lines(vision) -> list[tuple[str, str]]:
    graphs = [f"{graph.file}: {_tensor(graph.input)} -> {_tensor(graph.output)}" for graph in vision.graphs]
    return [("vision graphs" if not number else "", text) for number, text in enumerate(graphs)]


def _decoder_line(decoder) -> str:
    if decoder is None:
        return "none in this bundle"
    return (
        f"{decoder.model_type}, {decoder.precision}, hidden_size {decoder.hidden_size}, "
        f"vocabulary {decoder.vocab_size}, context {decoder.context_length}"
    )


def _accuracy_lines(accuracy: dict) -> list[tuple[str, str]]:
    from laco_export.summary import comparison_line

    lines = [("judged", " ".join(f"{word} {accuracy[key]}" for word, key in _JUDGED if accuracy.get(key)))]
    for entry in (*accuracy.get("tensors", []), *accuracy.get("branches", [])):
        lines.append(("", f"{comparison_line(entry, with_tolerance=True)}  {entry['name']}"))
    decoder = accuracy.get("decoder", {})
    parts = [part for part in ("whole", "cached") if part in decoder]
    return lines + [("", f"{comparison_line(decoder[part])}  decoder, {part}") for part in parts]


def _tensor(spec) -> str:
    return f"{spec.name} {spec.dtype}{list(spec.shape)}"


def _pairs(values: dict) -> str:
    return ", ".join(f"{name} {_plain(value)}" for name, value in values.items())


def _plain(value: object) -> object:
    """A list of records (the merges of a path) in words."""
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return f"[{'; '.join(_pairs(record) for record in value)}]"
    return value


INSPECT = Command("inspect", "show and verify what a bundle says about itself", _add_arguments, _run)
