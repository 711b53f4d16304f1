"""What a published folder describes, in this project's terms."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from transformers import PretrainedConfig

from ... import weight_files
from ...chat_format import ChatFormat
from ...errors import CheckpointError, ConfigError, telling_line
from ...preprocessing import ImagePreprocessing
from ..encoders import EncoderSpec
from ..encoders.specification import OriginalLayout
from ..language_models import language_config_as_stated


@dataclass(frozen=True)
class KeyMap:
    """Where a layout's tensors belong in :class:`~laco_export.models.LacoForConditionalGeneration`.

    Attributes:
        tower: pattern of how the names of the vision tower's tensors begin; the rest is the encoder's own name.
        renames: ``(pattern, replacement)`` for :func:`re.sub`, of which the first that matches is applied.
        skipped: patterns of tensors that are left out.
        encoder: how the encoder's own names are those of its publisher; None for transformers'.
    """

    tower: str
    renames: tuple[tuple[str, str], ...]
    skipped: tuple[str, ...] = (r"rotary_emb\.inv_freq$",)
    encoder: OriginalLayout | None = None

    def tower_name(self, stored: str) -> str | None:
        """The encoder's name of a tower's tensor; None of any other."""
        match = re.match(self.tower, stored)
        return stored[match.end() :] if match else None

    def renamed(self, stored: str) -> str:
        """The model's name of a tensor outside the tower."""
        for pattern, replacement in self.renames:
            name, count = re.subn(pattern, replacement, stored)
            if count:
                return name
        return stored


@dataclass(frozen=True)
class PublishedModel:
    """What the ``config.json`` of a folder describes.

    Attributes:
        name: of the family, for what is said.
        spec, vision_config, text_config: the parts, by transformers' classes.
        fields: further fields of :class:`~laco_export.models.LacoConfig`.
        preprocessing: of a picture that is one tile.
        key_map: of the stored tensors.
        image_token: its name, where the layout has none of its own in ``config.json``.
        image_token_id: its id in the vocabulary; None where the tokenizer alone says it.
        pictures: fields of :class:`~laco_export.chat_format.ChatFormat` that the family adds to its template.
        chat_format: where the publisher's code has the template, and the folder perhaps none.
        remarks: a sentence about each thing that is not as in the folder.
    """

    name: str
    spec: EncoderSpec
    vision_config: PretrainedConfig
    text_config: PretrainedConfig
    fields: Mapping
    preprocessing: ImagePreprocessing
    key_map: KeyMap
    image_token: str | None = None
    image_token_id: int | None = None
    pictures: Mapping[str, str] = field(default_factory=dict)
    chat_format: ChatFormat | None = None
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class PublishedLayout:
    """One way in which folders are laid out.

    Attributes:
        model_type: of its ``config.json``, one of :data:`~laco_export.published_families.PUBLISHED_FAMILIES`.
        describe: ``(values of config.json, folder) -> PublishedModel``.
    """

    model_type: str
    describe: Callable[[dict, Path], PublishedModel]


def section(values: Mapping, name: str, folder: Path) -> dict:
    """A part of a ``config.json``; empty where it is left out.

    Raises:
        CheckpointError: it is no object.
    """
    stated = values.get(name)
    if stated is not None and not isinstance(stated, dict):
        raise CheckpointError(
            f"{name} in '{folder / 'config.json'}' is not a JSON object", given=f"{stated!r:.60}", allowed="its fields"
        )
    return dict(stated or {})


def text_config_of(values: Mapping, folder: Path, *, default: str) -> tuple[PretrainedConfig, tuple[str, ...]]:
    """The language model's configuration, and a sentence about what is not as stated.

    A rotary embedding that changes with the prompt's length (InternVL's ``dynamic``) is the plain one up to
    ``max_position_embeddings``, beyond which no prompt goes here.

    Args:
        values: its fields in the folder's ``config.json``.
        default: ``model_type`` where it is not stated.

    Raises:
        CheckpointError: of a family that cannot be exported (Mistral, InternLM 2), or with fields that the installed
            class does not read.
    """
    fields = {**values, "model_type": values.get("model_type", default)}
    remarks: tuple[str, ...] = ()
    if _is_plain_within_context(fields.get("rope_scaling")):
        fields["rope_scaling"] = None
        remarks = (_LEFT_OUT,)
    elif _is_plain_within_context(rotary := fields.get("rope_parameters")):  # as transformers 5 writes it
        base = {"rope_theta": rotary["rope_theta"]} if "rope_theta" in rotary else {}
        fields["rope_parameters"] = {"rope_type": "default", **base}
        remarks = (_LEFT_OUT,)
    config = language_config_as_stated(fields, folder, stated_in=f"the language model of '{folder}'")
    return config, remarks


_LEFT_OUT = "rope_scaling dynamic is left out: it changes nothing up to max_position_embeddings"


def _is_plain_within_context(scaling: object) -> bool:
    """Whether ``rope_scaling`` (``rope_parameters``) is dynamic by transformers' rule, whose base is the plain one up
    to the context."""
    if not isinstance(scaling, dict) or set(scaling) - {"type", "rope_type", "factor", "rope_theta"}:
        return False
    return scaling.get("rope_type", scaling.get("type")) == "dynamic"


def stated_preprocessor(folder: Path) -> dict:
    """What the folder says of its image processor; empty where it says nothing.

    ``preprocessor_config.json``, or the part of ``processor_config.json`` where transformers 5 writes it.
    """
    own, shared = folder / "preprocessor_config.json", folder / "processor_config.json"
    if own.is_file():
        return weight_files.read_json(own)
    stated = weight_files.read_json(shared).get("image_processor") if shared.is_file() else None
    return stated if isinstance(stated, dict) else {}


def preprocessing_of(
    folder: Path, spec: EncoderSpec, config: PretrainedConfig, *, always_tiles: bool = False
) -> ImagePreprocessing:
    """How a picture of one tile is prepared, as the folder states it, else as the encoder was published.

    Args:
        always_tiles: each picture is cut into tiles of the encoder's size, of which nothing is cut off.

    Raises:
        CheckpointError: it states what is not done here, or another size than the encoder's input.
    """
    published, values = spec.preprocessing(config), stated_preprocessor(folder)
    if not values:
        return published
    padded = str(values.get("image_processor_type", "")).startswith("LlavaImageProcessor") and values.get("do_pad")
    names = ("size", "crop_size", "image_mean", "image_std", "resample", "rescale_factor")
    _refuse_steps_left_out(folder, values, always_tiles)
    try:
        stated = ImagePreprocessing.from_dict({name: values[name] for name in names if values.get(name) is not None})
    except ConfigError as error:
        raise _unprepared(folder, error.failed, error.given, error.allowed) from None
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise _unprepared(folder, telling_line(error)) from None
    if (stated.height, stated.width) != (published.height, published.width):
        raise CheckpointError(
            f"the pictures of '{folder}' are not of its encoder's size",
            given=f"size {stated.height} x {stated.width}",
            allowed=f"{published.height} x {published.width}, vision_config.image_size",
        )
    resize = "pad" if padded else stated.resize
    return ImagePreprocessing(stated.height, stated.width, resize, stated.mean, stated.std)


def _refuse_steps_left_out(folder: Path, values: Mapping, always_tiles: bool) -> None:
    """Refuse a step of the preparation that is switched off, by null too, as transformers' processors read it."""
    steps = ["do_resize", "do_rescale", "do_normalize"]
    size = values.get("size")
    exact = isinstance(size, Mapping) and "height" in size
    if not (exact or always_tiles):  # else the picture has the encoder's size already
        steps.append("do_center_crop")
    for name in steps:
        if not values.get(name, True):
            raise _unprepared(folder, "a step is left out", f"{name} {values[name]}", "true")


def _unprepared(folder: Path, reason: str, stated: object = None, allowed: object = None) -> CheckpointError:
    return CheckpointError(
        f"pictures cannot be prepared as '{folder}' states: {reason}",
        given=stated,
        allowed=allowed,
        todo="get the folder's preprocessor_config.json again",
    )


def require_value(folder: Path, values: Mapping, name: str, *allowed: object, why: str) -> None:
    """Refuse a field with another value than those that are computed; one that is missing is as in the first.

    Raises:
        CheckpointError: it has.
    """
    stated = values.get(name, allowed[0])
    if stated not in allowed:
        raise CheckpointError(
            f"'{folder}' is of a form that is not supported: {why}",
            given=f"{name} {stated!r}",
            allowed=", ".join(repr(value) for value in allowed),
        )


def feature_layer_of(folder: Path, layer: object) -> int:
    """One index of transformers' ``hidden_states``.

    Raises:
        CheckpointError: several, whose features would stand side by side.
    """
    if isinstance(layer, list) and len(layer) == 1:
        (layer,) = layer
    if isinstance(layer, list):
        raise CheckpointError(
            f"'{folder}' takes the features of several layers side by side, which is not supported",
            given=f"vision_feature_layer {layer}",
            allowed="one layer",
        )
    if not isinstance(layer, int) or isinstance(layer, bool):
        raise CheckpointError(f"the feature layer of '{folder}' is not a whole number", given=repr(layer))
    return layer


def anyres_tiling(folder: Path, tile: int, pinpoints: Sequence[Sequence[int]], max_tiles: int | None) -> dict:
    """LLaVA's tiling by its list of picture sizes.

    Args:
        tile: side of the encoder's input in pixels.
        pinpoints: (height, width) in pixels, in the order in which they are tried.
        max_tiles: a larger grid is scaled down to so many; None for none.

    Raises:
        CheckpointError: a size is not made of whole tiles.
    """
    sizes = pinpoints if isinstance(pinpoints, list) else [pinpoints]
    if wrong := [size for size in sizes or [sizes] if not _is_of_tiles(size, tile)]:
        raise CheckpointError(
            f"the image_grid_pinpoints of '{folder}' are not made of its encoder's tiles",
            given=repr(wrong[0]),
            allowed=f"[[height, width], …], multiples of {tile}",
        )
    grids = [[height // tile, width // tile] for height, width in pinpoints]
    rows, columns = (max(sides) for sides in zip(*grids, strict=True))
    tiling = {
        "tile": tile,
        "max_rows": rows,
        "max_columns": columns,
        "max_tiles": max_tiles or max(row * column for row, column in grids),
    }
    every = [[row, column] for row in range(1, rows + 1) for column in range(1, columns + 1)]
    return tiling if grids == every else {**tiling, "grids": grids}


def _is_of_tiles(size: object, tile: int) -> bool:
    if not isinstance(size, list) or len(size) != 2:
        return False
    return all(isinstance(side, int) and side >= tile and side % tile == 0 for side in size)
