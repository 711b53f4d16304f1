"""Encoders from their published folders: transformers' layout or the publisher's own.

A folder is recognised by ``model_type`` in its ``config.json``. Publishers' remote code is never run: their tensors are
renamed (and the fused QKV split) by the encoder's :class:`OriginalLayout`. Tensors that are not the encoder's, such as
a text tower or a pooling head, are skipped by name; any other tensor that is missing or left over is an error.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor
from transformers import CONFIG_MAPPING, PretrainedConfig, PreTrainedModel

from ... import weight_files
from ...errors import CheckpointError, ConfigError, LacoError, telling_line
from ...preprocessing import ImagePreprocessing
from ..stated_config import config_as_stated, modeling_of
from ..tensor_audit import TensorAudit
from ..unallocated import parameters_without_memory
from . import ENCODERS, EncoderSpec
from .specification import OriginalLayout

_FULL_MODELS = {"siglip": "siglip_vision_model", "clip": "clip_vision_model"}
"""``model_type`` of two-tower models, whose vision tower is configured under ``vision_config``."""


def load_encoder(folder: Path | str, *, dtype: torch.dtype | None = None) -> PreTrainedModel:
    """The vision encoder of a folder, without its pooling head, in evaluation mode.

    Args:
        folder: ``config.json`` and ``model.safetensors``, whole or sharded.
        dtype: cast floating-point tensors; None keeps what is stored.

    Raises:
        CheckpointError: not such a folder, of an unknown architecture, damaged, with fields that the installed
            transformers does not read, or with tensors that do not fit or hold inf or NaN.
    """
    folder = Path(folder)
    values = weight_files.read_json(folder / "config.json")
    spec, config, layout = recognise(folder, values)
    with _buildable(folder), parameters_without_memory():
        model = spec.model_class()(config)
    audit, expected = TensorAudit(folder), dict(model.named_parameters())
    loaded: dict[str, Tensor] = {}
    for name, tensor in _stored_tensors(folder, spec, layout):
        if name not in expected:
            audit.unexpected.append(name)
            continue
        loaded[name] = tensor.to(dtype) if dtype else tensor
        if audit.fits(name, tensor.shape, expected[name].shape):
            audit.check_finite(name, loaded[name])
    audit.missing += expected.keys() - loaded.keys()
    audit.close("check that config.json and the weights belong together and are of the same resolution")
    model.load_state_dict(loaded, assign=True, strict=False)
    config.dtype = next(iter(loaded.values())).dtype
    return model.eval()


@contextmanager
def _buildable(folder: Path) -> Iterator[None]:
    """transformers' configurations check their fields' types when they are made (5), its models the rest when they are
    built."""
    try:
        yield
    except LacoError:
        raise
    except Exception as error:
        raise CheckpointError(
            f"'{folder / 'config.json'}' describes an encoder that cannot be built: {telling_line(error)}"
        ) from error


def recognise(folder: Path, values: dict) -> tuple[EncoderSpec, PretrainedConfig, OriginalLayout | None]:
    """Which encoder a ``config.json`` describes, its transformers configuration, and the layout of its tensors."""
    weight_files.refuse_quantised(folder, values)
    weight_files.refuse_many_layers(folder, values)
    model_type = values.get("model_type")
    if model_type == "aimv2" and "vision_config" in values:
        raise CheckpointError(
            f"'{folder}' holds AIMv2 with a text tower (LiT), whose vision tower was tuned to end in one embedding",
            given=f"model_type {model_type!r} with a vision_config",
            allowed="AIMv2's vision tower alone, as apple/aimv2-large-patch14-224",
            todo="get that folder",
        )
    if isinstance(model_type, str) and model_type in _FULL_MODELS:
        model_type, values = _FULL_MODELS[model_type], dict(values.get("vision_config") or {})
    for spec in ENCODERS.values():
        layout = spec.original
        if layout and model_type in layout.model_types:
            with _buildable(folder):
                config = CONFIG_MAPPING[spec.model_type](**layout.config(values))
            break
        if model_type == spec.model_type:
            layout = None
            fields = {**values, **spec.headless, "model_type": model_type}
            with _buildable(folder):
                config = config_as_stated(fields, folder, modeling_of(spec.model_class()))
            break
    else:
        supported = [
            *ENCODERS,
            *_FULL_MODELS,
            *(t for s in ENCODERS.values() if s.original for t in s.original.model_types),
        ]
        raise CheckpointError(
            f"'{folder}' holds no known vision encoder",
            given=f"model_type {model_type!r}",
            allowed=", ".join(sorted(supported)),
        )
    try:
        spec.check(config)
    except ConfigError as error:
        raise CheckpointError(
            f"'{folder}' holds a form of the encoder that cannot be merged in: {error.failed}",
            given=error.given,
            allowed=error.allowed,
            todo=error.todo,
        ) from None
    return spec, config, layout


def stated_preprocessing(folder: Path | str) -> tuple[ImagePreprocessing, tuple[str, ...]]:
    """How the encoder of a folder sees pictures: its ``preprocessor_config.json``, or where there is none the published
    preprocessing of its kind.

    Returns:
        the preprocessing, and a sentence about each way in which it is another than the published one.

    Raises:
        CheckpointError: the file asks for what is not done here (another filter, no rescaling), or contradicts the
            encoder.
    """
    folder = Path(folder)
    spec, config, layout = recognise(folder, weight_files.read_json(folder / "config.json"))
    published, path = spec.preprocessing(config), folder / "preprocessor_config.json"
    if not path.is_file():
        return published, ()
    values = weight_files.read_json(path)
    if unused := [name for name in ("do_resize", "do_rescale", "do_normalize") if values.get(name) is False]:
        raise _contradiction(path, f"{unused[0]} false", "true")
    try:
        stated = ImagePreprocessing.from_dict(values)
    except ConfigError as error:
        raise _contradiction(
            path, f"{error.failed.removeprefix('preprocessor_config.json: ')}: {error.given}", error.allowed
        ) from None
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise _contradiction(path, f"{type(error).__name__}: {error}", None) from None
    if (stated.height, stated.width) != (published.height, published.width):
        size = f"{published.height} x {published.width}, the encoder's image_size"
        raise _contradiction(path, f"size {stated.height} x {stated.width}", size)
    remarks = []
    if stated.resize != published.resize:
        if layout is None:
            raise _contradiction(path, f"pictures resized by {stated.resize}", published.resize)
        remarks.append(
            f"its preprocessor_config.json says {stated.resize}; pictures are resized by {published.resize}, as the "
            "models that are made of this encoder do"
        )
    if (stated.mean, stated.std) != (published.mean, published.std):
        remarks.append(f"image_mean {list(stated.mean)} and image_std {list(stated.std)} are its own")
    return replace(stated, resize=published.resize), tuple(remarks)


def _contradiction(path: Path, stated: str, allowed: object) -> CheckpointError:
    return CheckpointError(
        f"'{path}' asks for pictures that this encoder would not be given",
        given=stated,
        allowed=allowed,
        todo="correct the file if it is not the encoder's, or remove it: the published preprocessing is taken then",
    )


def _stored_tensors(folder: Path, spec: EncoderSpec, layout: OriginalLayout | None) -> Iterator[tuple[str, Tensor]]:
    """The encoder's tensors under transformers' names, one at a time."""
    for path in weight_files.find(folder):
        try:
            with safe_open(path, framework="pt") as file:
                for stored in file.keys():  # noqa: SIM118
                    name = spec.stored_name(rename(stored, layout))
                    if any(re.search(pattern, name) for pattern in spec.skipped):
                        continue
                    yield from split(name, file.get_tensor(stored), layout)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"'{path}' is damaged or cut off: {error}", todo="copy the folder again") from None


def rename(name: str, layout: OriginalLayout | None) -> str:
    """A stored tensor's name in transformers' class."""
    for pattern, replacement in layout.renames if layout else ():
        name = re.sub(pattern, replacement, name)
    return name


def split(name: str, tensor: Tensor, layout: OriginalLayout | None) -> Iterator[tuple[str, Tensor]]:
    """The tensors of transformers' class that one of its publisher's is, by its renamed ``name``."""
    if layout and re.search(layout.fused_qkv, name):
        for part, piece in zip(("q_proj", "k_proj", "v_proj"), tensor.chunk(3), strict=True):  # [3·C, …] -> 3 x [C, …]
            yield name.replace(".qkv.", f".{part}."), piece
    elif layout and name in layout.squeezed:
        yield name, tensor.squeeze(0)
    else:
        yield name, tensor


__all__ = ["load_encoder", "recognise", "rename", "split", "stated_preprocessing"]
