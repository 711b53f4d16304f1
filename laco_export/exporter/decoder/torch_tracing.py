"""The decoder's graph by torch's exporter alone, where Optimum is not there."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import torch

from ...exportable import head_dim
from ...models.transformers_versions import settle_generation_fields
from .skeleton import skeleton

_BATCH, _PAST, _STEP, _WANTED = 2, 16, 3, 2  # of the example that is traced; every one of them is a named axis


def trace_by_torch(language_model, path: Path, *, opset: int) -> None:
    """Write the graph of names to ``path`` and ``config.json`` and ``generation_config.json`` beside it."""
    settle_generation_fields(language_model)
    language_model.config.save_pretrained(path.parent)
    with suppress(ValueError):  # fields that contradict each other: the file is left out, as by Optimum
        language_model.generation_config.save_pretrained(path.parent)
    axes = _axes(language_model.config.num_hidden_layers)
    outputs = [name for name in axes if name == "logits" or name.startswith("present")]
    with torch.no_grad(), skeleton(language_model.eval()) as decode:

        def by_tensors(*step_and_past):
            *step, past = (*step_and_past[:4], _Cache(step_and_past[4:]))
            logits = decode(*step, past)
            return logits, *(tensor for layer in past.layers for tensor in (layer.keys, layer.values))

        language_model.forward = by_tensors  # skeleton takes it off again
        torch.onnx.export(
            language_model,
            _example(language_model.config),
            str(path),
            input_names=[name for name in axes if name not in outputs],
            output_names=outputs,
            dynamic_axes=axes,
            opset_version=opset,
            dynamo=False,
        )


class _Cache:
    """What a base model asks of a cache, over ``(key, value, …)`` of all layers."""

    def __init__(self, tensors):
        self.layers = [SimpleNamespace(keys=key, values=value) for key, value in zip(tensors[::2], tensors[1::2])]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return self.layers[layer_idx].keys.shape[2]


def _axes(layers: int) -> dict[str, dict[int, str]]:
    """The named axes of each input and output, in their order."""
    kinds = [f"{layer}.{kind}" for layer in range(layers) for kind in ("key", "value")]
    return {
        "inputs_embeds": {0: "batch_size", 1: "sequence_length"},
        "seqlens_k": {0: "batch_size"},
        "total_sequence_length": {},
        "logit_positions": {0: "batch_size", 1: "logits_length"},
        **{f"past_key_values.{kind}": {0: "batch_size", 2: "past_sequence_length"} for kind in kinds},
        "logits": {0: "batch_size", 1: "logits_length"},
        **{f"present.{kind}": {0: "batch_size", 2: "past_sequence_length + sequence_length"} for kind in kinds},
    }


def _example(config) -> tuple[torch.Tensor, ...]:
    cache = torch.zeros(_BATCH, config.num_key_value_heads, _PAST, head_dim(config))
    return (
        torch.zeros(_BATCH, _STEP, config.hidden_size),
        torch.full((_BATCH,), _PAST + _STEP - 1, dtype=torch.int32),
        torch.tensor(_PAST + _STEP, dtype=torch.int32),
        torch.zeros(_BATCH, _WANTED, 1, dtype=torch.int64),
        *(cache.clone() for _ in range(2 * config.num_hidden_layers)),
    )
