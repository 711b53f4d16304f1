"""The decoder's graph by Optimum.

Optimum's configurations feed ``input_ids``, an attention mask and positions. A subclass of the family's own swaps those
for what the :mod:`.skeleton` takes and leaves the rest (the cache, the axes, the order) as it is.
"""

from __future__ import annotations

from pathlib import Path

from optimum.exporters.onnx import onnx_export_from_model
from optimum.exporters.tasks import TasksManager
from transformers.modeling_outputs import CausalLMOutputWithPast

from ...exportable import head_dim
from .skeleton import skeleton

TASK = "text-generation-with-past"


def trace_by_optimum(language_model, path: Path, *, opset: int) -> None:
    """Write the graph of names to ``path``, which is named ``model.onnx``, and the model's configurations beside it."""
    onnx_config = _embeds_config(language_model.config)
    with skeleton(language_model) as decode:

        def by_names(inputs_embeds, seqlens_k, total_sequence_length, logit_positions, past_key_values):
            logits = decode(inputs_embeds, seqlens_k, total_sequence_length, logit_positions, past_key_values)
            return CausalLMOutputWithPast(logits=logits, past_key_values=past_key_values)

        language_model.forward = by_names  # skeleton takes it off again
        # Where Optimum looks for a tokenizer: a folder, never the hub.
        language_model.config._name_or_path = str(path.parent)
        onnx_export_from_model(  # what main_export calls once it has loaded the model from disk
            language_model,
            path.parent,
            opset=opset,
            task=TASK,
            custom_onnx_configs={path.stem: onnx_config},
            do_validation=False,  # verify_decoder does more
            no_post_process=True,  # it would look for weights
            device="cpu",
        )


def _embeds_config(config):
    """The family's own Optimum configuration with the skeleton's inputs."""
    constructor = TasksManager.get_exporter_config_constructor(
        "onnx", model_type=config.model_type, task=TASK, library_name="transformers"
    )
    family = getattr(constructor, "func", constructor)
    options = {"task": "text-generation", "use_past": True, "use_past_in_inputs": True}
    by_ids = family(config, **options)

    class EmbedsConfig(family):
        @property
        def inputs(self) -> dict[str, dict[int, str]]:
            cache = {name: axes for name, axes in super().inputs.items() if name.startswith("past_key_values")}
            return {
                "inputs_embeds": {0: "batch_size", 1: "sequence_length"},
                "seqlens_k": {0: "batch_size"},
                "total_sequence_length": {},
                "logit_positions": {0: "batch_size", 1: "logits_length"},
                **cache,
            }

        @property
        def outputs(self) -> dict[str, dict[int, str]]:
            return {**super().outputs, "logits": {0: "batch_size", 1: "logits_length"}}

        def fix_dynamic_axes(self, *_, **__) -> None:
            """Runs the graph in ONNX Runtime, which knows no placeholder; :mod:`.realize` names the outputs' axes."""

        def generate_dummy_inputs(self, framework: str = "pt", **shapes) -> dict:
            import torch

            past = by_ids.generate_dummy_inputs(framework, **shapes)["past_key_values"]
            batch, kv_heads, length, _ = past[0][0].shape
            cache = torch.zeros(batch, kv_heads, length, head_dim(config))
            return {
                "inputs_embeds": torch.zeros(batch, 3, config.hidden_size),
                "seqlens_k": torch.full((batch,), length + 2, dtype=torch.int32),
                "total_sequence_length": torch.tensor(length + 3, dtype=torch.int32),
                "logit_positions": torch.zeros(batch, 2, 1, dtype=torch.int64),
                "past_key_values": [(cache, cache.clone()) for _ in past],
            }

    return EmbedsConfig(config, **options)
