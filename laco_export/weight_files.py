"""The weight files of a Hugging Face folder: safetensors only, whole or sharded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from .errors import CheckpointError

_GGUF_TODO = (
    "get the model's own folder: a GGUF file is not read (transformers makes a folder of one: "
    "from_pretrained(folder, gguf_file=NAME), save_pretrained)"
)
_LONGEST_HEADER = 32 << 20
"""Bytes. A tensor takes about 100: this is room for 300,000, and the largest published models have 100,000. safetensors
itself reads 100 MB, which takes it half a minute."""
_FLOATS = ("F64", "F32", "F16", "BF16")
_WEIGHTS = ("weight", "bias")
"""How the names of what is trained end; position ids and masks, which some folders store too, are integers."""
_POINTER, _LONGEST_POINTER = b"version https://git-lfs.github.com/spec/", 1024  # of Git LFS; 130 bytes as a rule
_MOST_LAYERS = 10_000
"""A configuration of a million layers takes half a minute to read; the deepest published models have a few hundred."""
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
        reason = "brackets are nested too deeply" if isinstance(error, RecursionError) else error
        raise CheckpointError(f"'{path}' is not JSON: {reason}", todo="copy the checkpoint again") from None
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


def refuse_many_layers(folder: Path, values: Mapping) -> None:
    """Refuse a ``config.json`` with more layers than any model has, before a configuration is made of it.

    Raises:
        CheckpointError: it has, in itself or in a sub-configuration.
    """
    for layers in _layer_counts(values):
        if layers > _MOST_LAYERS:
            raise CheckpointError(
                f"'{folder / 'config.json'}' describes a model with more layers than any has",
                given=f"num_hidden_layers {layers:,}",
                allowed=f"at most {_MOST_LAYERS:,}",
                todo="the file was edited or is damaged; get it again",
            )


def _layer_counts(values: Mapping) -> list[int]:
    parts = (values, *(values.get(name) for name in ("text_config", "llm_config", "vision_config")))
    counts = [part.get("num_hidden_layers") for part in parts if isinstance(part, dict)]
    return [layers for layers in counts if isinstance(layers, int)]


def find(folder: Path) -> list[Path]:
    """The safetensors files of a checkpoint; every shard that the index names must be there.

    Raises:
        CheckpointError: a shard is missing, the weights are pickled (loading them would run code), there are none, or
            Git LFS's pointers stand in their place; a file's header is damaged, or longer than any model's; a weight or
            bias is no float; there are fewer tensors than config.json has layers.
    """
    refuse_pointers(folder)
    files = _named(folder)
    dtypes = [_dtypes(path) for path in files]
    for path, stored in zip(files, dtypes, strict=True):
        _check_floats(path, stored)
    _check_layers(folder, sum(map(len, dtypes)))
    return files


def _dtypes(path: Path) -> dict[str, str]:
    """The stored tensors and their dtypes in safetensors' names, before a library reads the file."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > min(path.stat().st_size, _LONGEST_HEADER):
            raise CheckpointError(
                f"'{path}' is damaged or cut off: its header cannot be read",
                given=f"a header of {size:,} bytes in a file of {path.stat().st_size:,}",
                allowed=f"a header inside the file, of at most {_LONGEST_HEADER:,} bytes",
                todo="copy the checkpoint again",
            )
        raw = file.read(size)
    try:
        return {name: str(entry["dtype"]) for name, entry in json.loads(raw).items() if name != "__metadata__"}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise CheckpointError(
            f"'{path}' is damaged or cut off: its header is not what safetensors writes",
            given=f"{path.stat().st_size:,} bytes",
            todo="copy the checkpoint again",
        ) from None


def _check_floats(path: Path, dtypes: dict[str, str]) -> None:
    wrong = {name: dtype for name, dtype in dtypes.items() if name.endswith(_WEIGHTS) and dtype not in _FLOATS}
    if wrong:
        name, dtype = next(iter(wrong.items()))
        raise CheckpointError(
            f"'{path}' holds weights that are no float numbers: {len(wrong)} tensors",
            given=f"{name} of {dtype}",
            allowed=", ".join(_FLOATS),
            todo="quantised weights are not read: get the folder that they were quantised from",
        )


def _check_layers(folder: Path, tensors: int) -> None:
    """A model of a million layers takes minutes to build, and is refused by its weights only then."""
    config = folder / "config.json"
    values = read_json(config) if config.is_file() else {}
    for layers in _layer_counts(values):
        if layers > tensors:
            raise CheckpointError(
                f"the tensors of '{folder}' are not those that its config.json describes",
                given=f"num_hidden_layers {layers:,}, and {tensors:,} tensors in all",
                todo="the weights and config.json belong to different models, or the file was edited; get both again",
            )


def _named(folder: Path) -> list[Path]:
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
