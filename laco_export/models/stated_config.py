"""A published ``config.json`` as it was meant, whichever transformers wrote it.

::

    config = config_as_stated(weight_files.read_json(folder / "config.json"), folder)

transformers keeps a field that its class does not know and computes without it: a folder that transformers 5 saved has
its RoPE base under ``rope_parameters``, where 4.57 does not look, and the model would be built on another base. No
comparison with PyTorch shows that, since PyTorch's model is that model. So each field is one that the installed class
reads, one that is translated here, one that is known to change nothing of what is computed, or it is refused by name.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from types import ModuleType

import transformers
from transformers import CONFIG_MAPPING, PretrainedConfig

from ..errors import CheckpointError
from .transformers_versions import configuration_fields

_ROPE_FIELDS = {
    "default": (),
    "linear": ("factor",),
    "dynamic": ("factor", "original_max_position_embeddings"),
    "llama3": ("factor", "original_max_position_embeddings", "low_freq_factor", "high_freq_factor"),
    "longrope": ("short_factor", "long_factor", "factor", "attention_factor", "original_max_position_embeddings"),
    "yarn": (
        *("factor", "attention_factor", "beta_fast", "beta_slow", "original_max_position_embeddings"),
        *("mscale", "mscale_all_dim", "truncate"),
    ),
}
"""What transformers 4.57 reads of ``rope_scaling``, by its kind (``modeling_rope_utils.py``)."""

_HARMLESS = {
    # Notes of whoever wrote the file, and how it was loaded.
    *("architectures", "model_type", "transformers_version", "name_or_path", "_name_or_path", "_model_name_or_path"),
    *("_commit_hash", "torch_dtype", "dtype", "transformers.js_config", "unsloth_fixed", "unsloth_version"),
    *("is_llama_config", "model_name", "license", "use_cache", "use_return_dict", "use_bfloat16", "unk_token_id"),
    *("attn_implementation", "_attn_implementation", "_attn_implementation_autoset", "_attn_implementation_internal"),
    *("_flash_attn_2_enabled", "use_flash_attn", "use_flash_attention", "gradient_checkpointing", "keys_to_ignore"),
    # How weights start, and what is left out while training.
    *(
        "initializer_range",
        "initializer_factor",
        "layer_scale_init_value",
        "logit_scale_init_value",
        "dropout",
        "hidden_dropout",
        "drop_path_rate",
    ),
    *("attention_dropout", "hidden_dropout_prob", "projection_dropout", "embd_pdrop", "resid_pdrop"),
    # Of heads that are not taken over (two towers' projections, labels), and of classes that no longer have them.
    *(
        "projection_dim",
        "is_composition",
        "classifier_dropout",
        "tf_legacy_loss",
        "output_scores",
        "max_sequence_length",
    ),
}
_HARMLESS_IF = {
    "use_mrope": False,
    "rope_interleaved": False,
    "is_causal": True,
    "qk_layernorm": False,
    "use_qk_norm": False,
    "rope_finetuned": False,
    "clip_qkv": None,
    "mlp_only_layers": [],
}
"""Fields of a family's relatives, and the value with which they mean what the installed class does anyway."""


def config_as_stated(values: Mapping, named: Path | str, modeling: ModuleType | None = None) -> PretrainedConfig:
    """The installed class's configuration of a ``config.json``.

    Args:
        values: its fields; ``model_type`` is one that transformers knows.
        named: the folder or the field that they come from, for errors.
        modeling: the module of the model's class, where fields may be read that the configuration's class does not
            name.

    Raises:
        CheckpointError: a field says what the installed class would not do.
    """
    config_class = CONFIG_MAPPING[values["model_type"]]
    fields = rope_as_stated(values, config_class, named)
    unread = {
        name: value
        for name, value in fields.items()
        if value is not None
        and name not in _HARMLESS
        and not (name in _HARMLESS_IF and value == _HARMLESS_IF[name])
        and name not in _read_by_class(config_class)
        and not _is_read(name, modeling)
    }
    if unread:
        reader = f"transformers {transformers.__version__}"
        raise _unread_fields(named, reader, unread, f"the fields of {config_class.__name__}")
    return config_class.from_dict(fields)


def refuse_unread(values: Mapping, named: Path | str, *, read: Collection[str], harmless: Collection[str]) -> None:
    """Refuse a field of a ``config.json`` that this project reads itself, unless its meaning is known.

    Args:
        read: names of the fields that the caller asks for.
        harmless: further names of those that change nothing of what the model computes.

    Raises:
        CheckpointError: a field is neither, and not null.
    """
    answered = {*read, *harmless, *_HARMLESS, *_read_by_class(PretrainedConfig)}
    unread = {name: value for name, value in values.items() if value is not None and name not in answered}
    if unread:
        raise _unread_fields(named, "this project", unread, ", ".join(sorted(read)))


def computing_fields(config: PretrainedConfig) -> dict[str, object]:
    """The fields that shape a model or say what it computes: without notes of how it was written, started and
    trained, and without what every configuration of transformers holds."""
    others = _HARMLESS | _read_by_class(PretrainedConfig)
    return {name: value for name, value in config.to_dict().items() if name not in others}


def _unread_fields(named: Path | str, reader: str, unread: Mapping, allowed: str) -> CheckpointError:
    return CheckpointError(
        f"'{named}' has fields in its config.json that {reader} does not read, so that another model would be built",
        given=", ".join(f"{name} {_shown(value)}" for name, value in list(unread.items())[:3]),
        allowed=allowed,
        todo="where a field changes nothing of what the model computes, take it out of config.json; else use a "
        "model that this version of transformers has",
    )


def modeling_of(model_class: type) -> ModuleType:
    """The module of a model's class."""
    return inspect.getmodule(model_class)


@functools.cache
def _read_by_class(config_class: type[PretrainedConfig]) -> frozenset[str]:
    return configuration_fields(config_class)


def _is_read(name: str, modeling: ModuleType | None) -> bool:
    """Whether the model's own module asks its configuration for this field."""
    if modeling is None or not re.fullmatch(r"\w+", name):
        return False
    return (
        re.search(rf"config\.{name}\b|getattr\(\s*(self\.)?config,\s*[\"']{name}[\"']", _source(modeling)) is not None
    )


@functools.cache
def _source(module: ModuleType) -> str:
    return inspect.getsource(module)


def rope_as_stated(values: Mapping, config_class: type[PretrainedConfig], named: Path | str) -> dict:
    """The fields with transformers 5's ``rope_parameters`` as ``rope_theta`` and ``rope_scaling``.

    Raises:
        CheckpointError: they state a rotary embedding that the installed class would not compute.
    """
    fields = dict(values)
    if "rope_parameters" not in fields:
        if "rope_scaling" in _read_by_class(config_class):
            _check_scaling(fields.get("rope_scaling"), "rope_scaling", named)
        return fields
    stated = fields.pop("rope_parameters")
    if stated is None:
        return fields
    if not isinstance(stated, Mapping) or any(isinstance(value, Mapping) for value in stated.values()):
        raise _wrong_rope(named, "rope_parameters", stated, "one rotary embedding for all layers")
    scaling = dict(stated)
    base, share = scaling.pop("rope_theta", None), scaling.pop("partial_rotary_factor", None)
    if share not in (None, 1):
        raise _wrong_rope(named, "rope_parameters.partial_rotary_factor", share, "1: whole heads turn")
    _check_scaling(scaling, "rope_parameters", named)
    translated = {
        "rope_theta": base,
        "rope_scaling": None if scaling.get("rope_type", "default") == "default" else scaling,
    }
    for name, value in translated.items():
        if value is None and name == "rope_theta":
            continue
        if fields.get(name, value) != value and fields[name] is not None:
            raise _wrong_rope(named, name, fields[name], f"{value}, as rope_parameters has it")
        fields[name] = value
    return fields


def _check_scaling(scaling: object, place: str, named: Path | str) -> None:
    """Refuse a rotary embedding that the installed transformers would compute in another way than is stated."""
    if scaling is None:
        return
    if not isinstance(scaling, Mapping):
        raise _wrong_rope(named, place, scaling, "an object, or null")
    kind = scaling.get("rope_type", scaling.get("type", "default"))
    if kind not in _ROPE_FIELDS:
        raise _wrong_rope(named, f"{place}.rope_type", kind, ", ".join(_ROPE_FIELDS))
    awaited = {*_ROPE_FIELDS[kind], "rope_type", "type", "finetuned"}
    if unread := [name for name, value in scaling.items() if name not in awaited and value is not None]:
        raise _wrong_rope(named, f"{place}.{unread[0]}", scaling[unread[0]], ", ".join(sorted(awaited)))


def _wrong_rope(named: Path | str, field: str, value: object, allowed: str) -> CheckpointError:
    return CheckpointError(
        f"'{named}' states a rotary embedding that transformers {transformers.__version__} would not compute as stated",
        given=f"{field}: {_shown(value)}",
        allowed=allowed,
        todo="get the model's folder as an earlier transformers saved it, or one whose rotary embedding is supported",
    )


def _shown(value: object) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:60]}…"
