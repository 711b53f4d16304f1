"""The decoder's graph, written by Optimum, without its weights.

Optimum's configurations feed ``input_ids``, an attention mask and positions. A subclass of the family's own swaps those
for what the :mod:`.skeleton` takes and leaves the rest (the cache, the axes, the order) as it is. The trace takes a
second and a few megabytes whatever the model's size: its nodes name the weights, and :mod:`.realize` writes them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import ExportError, telling_line
from ...exportable import head_dim, require_exportable
from ...quiet import quiet_libraries
from .skeleton import skeleton

GRAPH = "model.onnx"
TASK = "text-generation-with-past"
OPSET = 20


def trace(language_model, folder: Path) -> Path:
    """Write the graph of names and the model's configurations into ``folder`` and return the graph's path.

    Raises:
        ExportError: the model is not of a supported kind, or Optimum's export failed.
    """
    require_exportable(language_model.config)
    from optimum.exporters.onnx import onnx_export_from_model

    onnx_config = _embeds_config(language_model.config)
    with quiet_libraries(), _unchanged(language_model), skeleton(language_model):
        # Where Optimum looks for a tokenizer: a folder, never the hub.
        language_model.config._name_or_path = str(folder)
        try:
            onnx_export_from_model(  # what main_export calls once it has loaded the model from disk
                language_model,
                folder,
                opset=OPSET,
                task=TASK,
                custom_onnx_configs={"model": onnx_config},
                do_validation=False,  # verify_decoder does more
                no_post_process=True,  # it would look for weights
                device="cpu",
            )
        except OSError:  # a full disk, say: told as such
            raise
        except Exception as error:
            raise ExportError(
                f"the language model could not be exported: {type(error).__name__}: {telling_line(error)}",
                given=f"model_type {language_model.config.model_type}",
            ) from error
    written = {path.name for path in folder.iterdir()}
    if not {GRAPH, "config.json"} <= written:
        raise ExportError("Optimum did not write the decoder's files", given=", ".join(sorted(written)))
    return folder / GRAPH


def _embeds_config(config):
    """The family's own Optimum configuration with the skeleton's inputs."""
    from optimum.exporters.tasks import TasksManager

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


@contextmanager
def _unchanged(language_model) -> Iterator[None]:
    """Optimum sets fields of the model's configurations and its mode; put them back."""
    owners = [language_model.config, language_model.generation_config]
    before = [copy.copy(vars(owner)) for owner in owners]
    training = language_model.training
    try:
        yield
    finally:
        for owner, values in zip(owners, before):
            vars(owner).clear()
            vars(owner).update(values)
        language_model.train(training)
