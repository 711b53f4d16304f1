"""The language model as ONNX, written by Optimum, taking embeddings instead of token ids.

Optimum's configurations feed ``input_ids``. Visual embeddings have none, so a subclass of the family's own
configuration swaps that one input for ``inputs_embeds`` and leaves the rest (attention mask, positions, KV cache) as it
is. The embedding table is written beside the graph as ``embed_tokens.npy``, to be looked up with numpy.

::

    inputs_embeds [B, T, D], attention_mask [B, P+T], position_ids [B, T], past_key_values.N.key/value [B, H, P, d]
        -> logits [B, T, V], present.N.key/value [B, H, P+T, d]

:func:`export_decoder` writes the files; :func:`.decoder_proof.verify_decoder` compares them with PyTorch. FP32 only for
now; quantised decoders, and a head on the last position alone, are not covered.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..bundle import Decoder
from ..errors import ExportError
from ..quiet import quiet_libraries
from .decoder_proof import verify_decoder

FOLDER = "llm"
GRAPH = "model.onnx"
EMBEDDING_TABLE = "embed_tokens.npy"
TASK = "text-generation-with-past"

FAMILIES = ("qwen2", "qwen3", "llama")
"""The ``model_type`` of the language models whose export is tested; Optimum knows more."""


__all__ = ["FAMILIES", "export_decoder", "verify_decoder"]


def export_decoder(
    language_model,
    *,
    image_token_id: int,
    eos_token_ids: Sequence[int],
    output_folder: Path,
    generation_config=None,
    advance: Callable[..., None] | None = None,
) -> Decoder:
    """Write ``<output_folder>/llm/``: ``model.onnx`` with external data, its configurations and the embedding table.

    Args:
        language_model: a transformers causal language model in FP32; it is left as it was.
        eos_token_ids: the tokens that end an answer; written to ``generation_config.json``.
        output_folder: the bundle that is being built.
        generation_config: what ``generation_config.json`` starts from; pass the whole model's
            (``model.generation_config``), which a checkpoint stores. Default: the language model's own.
        advance: called as ``advance(0, description)`` when a step begins; it never moves the bar.

    Returns:
        the manifest's entry for the decoder.

    Raises:
        ExportError: a family that is not of :data:`FAMILIES`, or Optimum's export failed.
    """
    if language_model.config.model_type not in FAMILIES:
        raise ExportError(
            "this family of language models is not supported",
            given=language_model.config.model_type,
            allowed=", ".join(FAMILIES),
        )
    say = advance or (lambda steps, description: None)
    folder = Path(output_folder) / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    config = language_model.config
    table = language_model.get_input_embeddings().weight.detach().float().numpy()  # [V, D]
    generation = copy.deepcopy(generation_config or language_model.generation_config)
    say(0, "tracing the language model")
    with quiet_libraries(), _unchanged(language_model), _external_data():
        _trace(language_model, folder)
    say(0, "writing the embedding table")
    np.save(folder / EMBEDDING_TABLE, table)
    _write_generation_config(generation, list(eos_token_ids), folder)
    return Decoder(
        folder=FOLDER,
        graph=f"{FOLDER}/{GRAPH}",
        embedding_table=f"{FOLDER}/{EMBEDDING_TABLE}",
        model_type=config.model_type,
        precision="fp32",
        hidden_size=table.shape[1],
        vocab_size=table.shape[0],
        context_length=config.max_position_embeddings,
        image_token_id=image_token_id,
        eos_token_ids=list(eos_token_ids),
    )


def _trace(language_model, folder: Path) -> None:
    from optimum.exporters.onnx import onnx_export_from_model

    onnx_config = _embeds_config(language_model.config)
    language_model.config._name_or_path = str(folder)  # where Optimum looks for a tokenizer: a folder, never the hub
    try:
        onnx_export_from_model(  # what main_export calls once it has loaded the model from disk
            language_model,
            folder,
            task=TASK,
            custom_onnx_configs={"model": onnx_config},
            do_validation=False,  # verify_decoder does more
            no_post_process=True,  # it would look for the tied embedding, which this graph does not hold
            device="cpu",
        )
    except OSError:  # a full disk, say: told as such
        raise
    except Exception as error:
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        raise ExportError(
            f"the language model could not be exported: {type(error).__name__}: {reason}",
            given=f"model_type {language_model.config.model_type}",
        ) from error
    written = {path.name for path in folder.iterdir()}
    if not {GRAPH, f"{GRAPH}_data", "config.json"} <= written:
        raise ExportError("Optimum did not write the decoder's files", given=", ".join(sorted(written)))
    (folder / f"{GRAPH}_data").chmod((folder / GRAPH).stat().st_mode)  # onnx writes it for its owner alone


def _embeds_config(config):
    """The family's own Optimum configuration, with ``inputs_embeds`` in the place of ``input_ids``."""
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
            return {("inputs_embeds" if name == "input_ids" else name): axes for name, axes in super().inputs.items()}

        def generate_dummy_inputs(self, framework: str = "pt", **shapes) -> dict:
            import torch

            dummies = by_ids.generate_dummy_inputs(framework, **shapes)  # sizes the attention mask by input_ids
            ids = dummies.pop("input_ids")  # [B, T]
            return {"inputs_embeds": torch.randn(*ids.shape, config.hidden_size), **dummies}

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


@contextmanager
def _external_data() -> Iterator[None]:
    # Optimum's own switch. A 0.5B decoder is just under protobuf's 2 GiB and anything larger above it: always external.
    name = "FORCE_ONNX_EXTERNAL_DATA"
    before = os.environ.get(name)
    os.environ[name] = "1"
    try:
        yield
    finally:
        os.environ.pop(name) if before is None else os.environ.update({name: before})


def _write_generation_config(generation_config, eos_token_ids: list[int], folder: Path) -> None:
    generation_config.eos_token_id = eos_token_ids
    if generation_config.pad_token_id is None:
        generation_config.pad_token_id = eos_token_ids[0]  # else generate() warns and takes the same
    generation_config.to_json_file(folder / "generation_config.json")
