"""The language model on Optimum ONNX Runtime, fed with embeddings.

:class:`EmbedsDecoder` is Optimum's ``ORTModelForCausalLM`` with one input exchanged, so transformers' ``generate``,
its logits processors and its streamers work as they do with any model. Imports torch and Optimum: import this module
only where text is generated.
"""

from __future__ import annotations

import numpy as np
import onnxruntime
import torch
from optimum.onnxruntime import ORTModelForCausalLM

from laco_export.bundle import Bundle
from laco_export.errors import BundleError

from .threads import default_threads


class EmbedsDecoder(ORTModelForCausalLM):
    """``ORTModelForCausalLM`` whose graph takes ``inputs_embeds``.

    ``generate(input_ids=…, inputs_embeds=…)`` prefills from the embeddings and looks up each later token in
    ``embedding_table`` (float ``[vocab, hidden]``, memory-mapped: a token reads one row of it).
    """

    embedding_table: np.ndarray

    def __init__(self, **parts):
        super().__init__(**parts)
        # Optimum derives the head size from the hidden size, which is wrong for families that state their own (Qwen3).
        self.embed_size_per_head = getattr(self.config, "head_dim", None) or self.embed_size_per_head

    def embed(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Token ids ``[B, T]`` to embeddings ``[B, T, D]``."""
        return torch.from_numpy(np.asarray(self.embedding_table[input_ids.numpy(force=True)], np.float32))

    def prepare_inputs_for_generation(self, input_ids, inputs_embeds=None, **kwargs):
        # Named, since generate() inspects this signature before it takes inputs_embeds.
        return super().prepare_inputs_for_generation(input_ids, inputs_embeds=inputs_embeds, **kwargs)

    def forward(
        self, input_ids=None, attention_mask=None, past_key_values=None, position_ids=None, inputs_embeds=None, **kwargs
    ):
        """One step: ``input_ids [B, T]`` or ``inputs_embeds [B, T, D]`` to logits ``[B, T, V]`` and the KV cache."""
        self._step_embeds = self.embed(input_ids) if inputs_embeds is None else inputs_embeds
        return super().forward(
            self._step_embeds[..., 0],  # [B, T]: Optimum takes the batch and the length from it, and nothing else
            attention_mask=attention_mask,
            past_key_values=past_key_values,
            position_ids=position_ids,
            **kwargs,
        )

    def _prepare_onnx_inputs(self, use_torch, model_inputs):
        return super()._prepare_onnx_inputs(use_torch, {**model_inputs, "inputs_embeds": self._step_embeds})

    def _prepare_io_binding(self, model_inputs, *args, **kwargs):
        return super()._prepare_io_binding({**model_inputs, "inputs_embeds": self._step_embeds}, *args, **kwargs)


def open_decoder(bundle: Bundle, *, threads: int | None = None) -> EmbedsDecoder:
    """Load a bundle's language model on the CPU provider.

    Raises:
        BundleError: ONNX Runtime or transformers cannot load it.
    """
    entry = bundle.manifest.decoder
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads or default_threads()
    options.log_severity_level = 3  # errors only: the user did not write the graph
    graph = bundle.file(entry.graph)
    try:
        decoder = EmbedsDecoder.from_pretrained(
            str(bundle.file(entry.folder)),
            file_name=graph.name,
            session_options=options,
            provider="CPUExecutionProvider",
            local_files_only=True,
        )
        decoder.embedding_table = np.load(bundle.file(entry.embedding_table), mmap_mode="r")  # [V, D]
    except Exception as error:  # onnxruntime, transformers and numpy raise many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise BundleError(
            f"the language model '{graph}' cannot be loaded: {reason}",
            given=f"onnxruntime {onnxruntime.__version__}",
            todo="update onnxruntime and optimum-onnx, or export the bundle again",
        ) from error
    if decoder.embedding_table.shape != (entry.vocab_size, entry.hidden_size):
        raise BundleError(
            f"the embedding table '{bundle.file(entry.embedding_table)}' has another shape than the manifest states",
            given=decoder.embedding_table.shape,
            allowed=(entry.vocab_size, entry.hidden_size),
        )
    return decoder
