"""The last of a bundle: the checkpoint's own files that it carries, and the manifest that records all steps."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import __version__
from ..bundle import Manifest, Vision
from ..machine import library_versions
from ..token_grid import tokens_per_image

if TYPE_CHECKING:
    from ..models import LacoForConditionalGeneration
    from .decoder_export import AskedDepth, DecoderExport
    from .golden_pictures import PreparedPictures
    from .options import ExportOptions
    from .tower_export import TowerExport
    from .witnesses import IndependentCheck

_CARRIED = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "merges.txt",
    "preprocessor_config.json",
    "processor_config.json",
    "chat_template.jinja",
    "chat_template.json",
)
"""Tokenizer and processor files: copied from the checkpoint as they are."""

_LIBRARIES = (
    "torch",
    "transformers",
    "onnx",
    "onnxscript",
    "onnx-graphsurgeon",
    "polygraphy",
    "onnxruntime",
    "optimum",
    "optimum-onnx",
    "numpy",
)

_NEWLINE_NAME = "image_newline.npy"


def carry_files(model: LacoForConditionalGeneration, checkpoint_folder: Path, folder: Path) -> None:
    """Put what an engine needs beside the graphs into the bundle's ``folder``: tokenizer, processor, the newline."""
    for name in _CARRIED:
        if (checkpoint_folder / name).is_file():
            shutil.copyfile(checkpoint_folder / name, folder / name)
    if model.image_newline is not None:
        np.save(folder / _NEWLINE_NAME, model.image_newline.detach().float().numpy())


def describe_bundle(
    options: ExportOptions,
    tower: TowerExport,
    pictures: PreparedPictures,
    checks: Sequence[IndependentCheck],
    decoder: DecoderExport | None,
    answers: AskedDepth | None,
) -> Manifest:
    """The manifest of a bundle with this tower alone, before its files are hashed and its steps are timed.

    Args:
        checks: all witnesses that agree about it.
        answers: the golden ones at this tower's depth, where there is a decoder.
    """
    loaded, verdict, compiled = tower.loaded, tower.verdict, tower.compiled
    loaded.choose_depth()
    accuracy = verdict.proof.to_manifest(pictures.names)
    accuracy["pictures_are"] = "given" if options.images else "drawn"
    accuracy["witnesses"] = [check.to_dict() for check in checks]
    accuracy["rewritten"] = tower.rewritten.proof.to_manifest(pictures.names)
    notes = [*loaded.notes, *verdict.notes, *compiled.notes, *tower.remarks]
    if decoder is None:
        notes.append("without a decoder: --no-llm")
    else:
        accuracy["decoder"] = decoder.accuracy
        notes += answers.notes
    return Manifest(
        tool_version=__version__,
        libraries=library_versions(_LIBRARIES),
        source={"name": options.model.resolve().name, "sha256": loaded.checkpoint.sha256},
        encoder=_encoder_entry(loaded.model),
        compression=_compression_entry(loaded.model, loaded.depth),
        vision=_vision_entry(loaded.model, verdict.written.vision),
        preprocessing=pictures.preprocessing.to_dict(),
        golden=tower.names.golden,
        golden_answers=None if answers is None else answers.file,
        accuracy=accuracy,
        decoder=None if decoder is None else decoder.entry,
        notes=notes,
        build={"compiled": compiled.records},
    )


def _encoder_entry(model: LacoForConditionalGeneration) -> dict:
    config, vision = model.config.vision_config, model.vision_model
    return {
        "model_type": config.model_type,
        "hidden_size": config.hidden_size,
        "num_blocks": vision.num_blocks,
        "image_size": list(vision.spec.image_size(config)),
        "patch_size": vision.spec.patch_size(config),
    }


def _compression_entry(model: LacoForConditionalGeneration, depth: str | None) -> dict:
    vision, path = model.vision_model, model.vision_model.path
    entry = {
        "method": vision.compression.method,
        "depth": depth,
        "block": vision.block,
        "ratio": path.total_ratio if path else 1,
        "tokens_before": tokens_per_image(vision.grid, 1),
        "tokens_after": model.tokens_per_image,
    }
    if path and len(path.blocks) > 1:
        tokens = [height * width for height, width in path.grids(vision.grid)[1:]]
        entry["merges"] = [
            {"block": block, "ratio": ratio, "tokens_after": count}
            for block, ratio, count in zip(path.blocks, path.ratios, tokens)
        ]
    return entry


def _vision_entry(model: LacoForConditionalGeneration, written: Vision) -> Vision:
    """The graphs' record with what an engine needs to place a picture's tokens, and the FLOPs."""
    return replace(
        written,
        token_grid=model.token_grid,
        tiling=model.config.tiling,
        token_layout=model.config.token_layout,
        image_newline=None if model.image_newline is None else _NEWLINE_NAME,
        flops=_flops(model),
    )


def _flops(model: LacoForConditionalGeneration) -> dict:
    from ..models.flops import vision_flops

    vision = model.vision_model
    total = vision_flops(model.config, path=vision.path).total
    if vision.path is None:
        return {"total": total}
    at_1 = vision_flops(model.config, path=vision.path.at_last(vision.num_blocks)).total
    return {"total": total, "ratio_to_1": total / at_1}
