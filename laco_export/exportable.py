"""Which language models can be exported: asked before anyone trains one, and by the exporter itself.

The decoder's graph (:mod:`laco_export.exporter.decoder.skeleton`) is made for ``self_attn`` with ``q_proj``,
``k_proj``, ``v_proj``, ``o_proj`` and perhaps ``q_norm`` and ``k_norm``, RMSNorm, rotary embedding of halves, and
attention over the whole context by ONNX Runtime's ``GroupQueryAttention``. ``laco-train init``, recipes and
``laco-export`` ask here, so that what the first accept is what the last exports.
"""

from __future__ import annotations

from typing import Any

from .errors import ExportError, LacoError

SUPPORTED_FAMILIES = ("qwen2", "qwen3", "llama")
"""The ``model_type`` of the language models whose export is tested."""

STATIC_ROPE = ("default", "linear", "llama3", "yarn")
"""Rotary embeddings whose frequencies do not depend on the prompt's length: one table serves all."""

ACTIVATIONS = (
    *("gelu", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_python_tanh", "gelu_pytorch_tanh"),
    *("laplace", "linear", "quick_gelu", "relu", "relu2", "sigmoid", "silu", "swish", "tanh"),
)
"""transformers' activations for which the exporter knows every operator that they trace to."""

LANGUAGE_ACTIVATIONS = (*ACTIVATIONS, "gelu_10", "leaky_relu", "mish", "relu6")
"""transformers' activations without weights of their own, which the decoder's graph has no place for (``prelu``,
``xielu``)."""

HEAD_STEP = 16
"""GroupQueryAttention with rotary embedding takes heads of a multiple of 16."""


def require_exportable(config: Any, named: str = "the language model", *, error: type[LacoError] = ExportError) -> None:
    """Refuse a language model that the exporter's graph would get wrong.

    Args:
        config: of transformers' class, or its fields as attributes.
        named: how an error calls the model.
        error: the class of what is raised.

    Raises:
        ExportError, or ``error``: a family, a rotary embedding, an activation, a head size or a sliding window that is
            not supported.
    """
    require_family(config.model_type, named, error=error)
    rotary = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}  # 5, or 4.57
    rope = rotary.get("rope_type", "default")
    if rope not in STATIC_ROPE:
        raise error(
            f"{named} has a rotary embedding that cannot be exported: it changes with the prompt's length",
            given=f"rope_type {rope}",
            allowed=", ".join(STATIC_ROPE),
            todo="choose a model whose rotary embedding is one of these",
        )
    if config.hidden_act not in LANGUAGE_ACTIVATIONS:
        raise error(
            f"{named} has an activation that cannot be exported",
            given=f"hidden_act {config.hidden_act!r}",
            allowed=", ".join(LANGUAGE_ACTIVATIONS),
            todo="choose a model whose activation is one of these",
        )
    if head_dim(config) % HEAD_STEP:
        raise error(
            f"{named} has attention heads of a size that ONNX Runtime's attention does not take",
            given=f"head_dim {head_dim(config)}",
            allowed=f"a multiple of {HEAD_STEP}",
        )
    if "sliding_attention" in (getattr(config, "layer_types", None) or ()):
        raise error(
            f"{named} attends over a sliding window, which cannot be exported",
            given=f"use_sliding_window, sliding_window {config.sliding_window}",
            allowed="attention over the whole context in all layers",
            todo="choose another model; where its contexts will be shorter than the window, set use_sliding_window to "
            "false in its config.json",
        )


def require_family(
    model_type: object, named: str = "the language model", *, error: type[LacoError] = ExportError
) -> None:
    """Refuse a ``model_type`` that is none of :data:`SUPPORTED_FAMILIES`.

    Raises:
        ExportError, or ``error``.
    """
    if model_type not in SUPPORTED_FAMILIES:
        raise error(
            f"{named} is of a family that cannot be exported",
            given=f"model_type {model_type!r}",
            allowed=", ".join(SUPPORTED_FAMILIES),
            todo="choose a language model of one of these families, such as Qwen2.5, Qwen3, SmolLM2",
        )


def head_dim(config: Any) -> int:
    """The width of an attention head."""
    return getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
