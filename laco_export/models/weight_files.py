"""The weight files of a Hugging Face folder: safetensors only, whole or sharded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ..errors import CheckpointError

_GGUF_TODO = (
    "get the model's own folder: a GGUF file is not read (transformers makes a folder of one: "
    "from_pretrained(folder, gguf_file=NAME), save_pretrained)"
)
_POINTER, _LONGEST_POINTER = b"version https://git-lfs.github.com/spec/", 1024  # of Git LFS; 130 bytes as a rule
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt", "*.pkl")


def read_json(path: Path) -> dict:
    """A JSON object from a checkpoint folder.

    Raises:
        CheckpointError: no such folder or file, or not a JSON object.
    """
    if not path.is_file():
        folder = path.parent
        raise CheckpointError(
            f"'{folder}' is not a checkpoint: it has no {path.name}"
            if folder.is_dir()
            else f"there is no folder '{folder}'",
            allowed="a folder in Hugging Face's layout: config.json and model.safetensors",
            todo=_GGUF_TODO if any(folder.glob("*.gguf")) else "check the path",
        )
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"'{path}' is not JSON: {error}", todo="copy the checkpoint again") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"'{path}' is not a JSON object", given=type(values).__name__)
    return values


def refuse_pointers(folder: Path) -> None:
    """Refuse a clone of a repository without its large files: what stands in their place is text.

    Raises:
        CheckpointError: a file is a pointer of Git LFS.
    """
    pointers = []
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if path.is_file() and path.stat().st_size < _LONGEST_POINTER:
            with open(path, "rb") as file:
                if file.read(len(_POINTER)) == _POINTER:
                    pointers.append(path.name)
    if pointers:
        raise CheckpointError(
            f"'{folder}' holds Git LFS's pointers in place of its large files",
            given=", ".join(pointers[:3]),
            todo="git lfs install, then git lfs pull in that folder; or download the folder with hf download",
        )


def refuse_quantised(folder: Path, values: Mapping) -> None:
    """Refuse a ``config.json`` of weights in few bits.

    Raises:
        CheckpointError: GPTQ, AWQ, bitsandbytes, FP8 or another such form.
    """
    quantised = values.get("quantization_config")
    if not quantised:
        return
    method = quantised.get("quant_method") if isinstance(quantised, dict) else quantised
    raise CheckpointError(
        f"'{folder}' holds quantised weights, which are neither trained nor exported as they are",
        given=f"quantization_config with quant_method {method!r}",
        allowed="float weights: the folder that it was quantised from",
        todo="or bring it back to floats where its library can (transformers: dequantize(), save_pretrained()); "
        "four bits with whole zero points in groups of 128, as of AWQ and GPTQ, keep their grid in --llm int4",
    )


def find(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint; every shard that the index names must be there.

    Raises:
        CheckpointError: a shard is missing, the weights are pickled (loading them would run code), there are none, or
            Git LFS's pointers stand in their place.
    """
    refuse_pointers(folder)
    single, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if index.is_file():
        try:
            names = sorted(set(read_json(index)["weight_map"].values()))
        except (KeyError, TypeError, AttributeError):
            raise CheckpointError(f"'{index}' is damaged", todo="copy the checkpoint again") from None
        for name in names:
            if Path(name).name != name or not (folder / name).is_file():
                raise CheckpointError(
                    f"'{folder}' lacks a shard of its weights", given=name, todo="copy the whole checkpoint"
                )
        return [folder / name for name in names]
    pickles = sorted(path.name for pattern in _PICKLES for path in folder.glob(pattern))
    if pickles:
        raise CheckpointError(
            f"'{folder}' holds pickled weights, which can run code when they are loaded",
            given=", ".join(pickles[:3]),
            allowed="model.safetensors",
            todo="load it where you trust it and save again with save_pretrained(safe_serialization=True)",
        )
    raise CheckpointError(
        f"'{folder}' holds no weights",
        allowed="model.safetensors, or shards with model.safetensors.index.json",
        todo=_GGUF_TODO if any(folder.glob("*.gguf")) else None,
    )
