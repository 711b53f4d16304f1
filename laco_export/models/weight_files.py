"""The weight files of a Hugging Face folder: safetensors only, whole or sharded."""

from __future__ import annotations

import json
from pathlib import Path

from ..errors import CheckpointError

_GGUF_TODO = (
    "get the model's own folder: a GGUF file is not read (transformers makes a folder of one: "
    "from_pretrained(folder, gguf_file=NAME), save_pretrained)"
)
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
    except ValueError as error:
        raise CheckpointError(f"'{path}' is not JSON: {error}", todo="copy the checkpoint again") from None
    if not isinstance(values, dict):
        raise CheckpointError(f"'{path}' is not a JSON object", given=type(values).__name__)
    return values


def find(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint; every shard that the index names must be there.

    Raises:
        CheckpointError: a shard is missing, the weights are pickled (loading them would run code), or there are none.
    """
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
