"""The language model on Optimum ONNX Runtime, fed with embeddings.

:class:`EmbedsDecoder` is Optimum's ``ORTModelForCausalLM`` with a step of its own, so transformers' ``generate``, its
logits processors and its streamers work as they do with any model. Imports torch and Optimum: import this module only
where text is generated.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import numpy as np
import torch
from optimum.onnxruntime import ORTModelForCausalLM
from transformers.modeling_outputs import CausalLMOutputWithPast

from laco_export.bundle import Bundle
from laco_export.embedding_table import EmbeddingTable
from laco_export.onnx_session import session_options
from laco_export.quiet import quiet_libraries

from ..providers import Provider, ProviderMissingError, check_provider, choose_provider, on_gpu
from .kv_cache import KVCache
from .language_files import loading_decoder, open_embedding, read_generation_fields


class EmbedsDecoder(ORTModelForCausalLM):
    """``ORTModelForCausalLM`` whose graph takes ``inputs_embeds`` and writes into a :class:`KVCache`.

    ``generate(input_ids=…, inputs_embeds=…)`` prefills from the embeddings and looks up each later token. With
    ``past_key_values`` it continues: ``input_ids`` and ``attention_mask`` are of the whole sequence, ``inputs_embeds``
    of the whole or of what the cache does not hold.

    The graph's attention takes rows padded on the right, ``generate`` hands out rows padded on the left: a step moves
    the padding.
    """

    embedding_table: EmbeddingTable

    def embed(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Token ids ``[B, T]`` to embeddings, float32 ``[B, T, D]``."""
        return torch.from_numpy(self.embedding_table.rows(input_ids.numpy(force=True)))

    def new_cache(self, capacity: int, batch: int = 1) -> KVCache:
        """An empty cache for ``capacity`` positions."""
        shape = self.input_shapes[self.key_value_input_names[0]]  # [batch, kv_heads, past, head_dim]
        layers = len(self.key_value_input_names) // 2
        return KVCache(layers, batch, shape[1], shape[3], capacity, self.dtype, self.device)

    def forward(
        self,
        input_ids=None,
        attention_mask=None,
        past_key_values=None,
        inputs_embeds=None,
        logits_to_keep: int = 0,
        **_,
    ) -> CausalLMOutputWithPast:
        """One step: ``input_ids [B, T]`` or ``inputs_embeds [B, T, D]`` to logits ``[B, N, V]``.

        Args:
            attention_mask: ``[B, P + T]``, 0 for padding; default: none.
            past_key_values: the cache of ``P`` columns, which is written into; default: a new one.
            logits_to_keep: ``N``: of so many of the last positions; 0 for all ``T``. Padding's logits mean nothing.
        """
        embeds = self.embed(input_ids) if inputs_embeds is None else inputs_embeds
        batch, length = embeds.shape[:2]
        cache = self.new_cache(length, batch) if past_key_values is None else past_key_values
        past = cache.lengths
        cache.reserve(max(past) + length)
        wanted = slice(-logits_to_keep or None, None)
        if attention_mask is None or bool(attention_mask[:, -length:].all()):
            columns = torch.ones(batch, length, dtype=torch.bool)
        else:
            columns = attention_mask[:, -length:].bool().cpu()
        if bool(columns.all()) and (batch == 1 or length == 1 or max(past) == 0):
            positions = torch.arange(length)[None, wanted].expand(batch, -1)  # [B, N]
            logits = self._run(embeds, cache, slice(0, batch), [p + length for p in past], positions)
        else:
            logits = self._run_padded(embeds, cache, past, columns, wanted)
        cache.append(columns)
        return CausalLMOutputWithPast(logits=logits, past_key_values=cache)

    def _run_padded(self, embeds, cache, past: list[int], columns: torch.Tensor, wanted: slice) -> torch.Tensor:
        """A step of rows that are not all of one length: their padding is moved to the end."""
        counts = columns.sum(1).tolist()
        order = torch.argsort(~columns, dim=1, stable=True)  # [B, T]: what is no padding first
        packed = embeds.gather(1, order[..., None].expand_as(embeds).to(embeds.device))
        positions = (columns.cumsum(1) - 1).clamp(min=0)[:, wanted]  # [B, N]: where each column's token stands now
        if max(past) == 0 and min(counts) > 0:
            return self._run(packed[:, : max(counts)], cache, slice(0, len(counts)), counts, positions)
        logits = embeds.new_zeros(len(counts), positions.shape[1], self.config.vocab_size)
        for row, (held, count) in enumerate(zip(past, counts)):  # the attention continues rows one by one
            if count:
                rows = slice(row, row + 1)
                logits[rows] = self._run(packed[rows, :count], cache, rows, [held + count], positions[rows])
        return logits

    def _run(self, embeds, cache: KVCache, rows: slice, lengths: list[int], positions) -> torch.Tensor:
        """Run the graph on some rows of the cache: embeddings ``[B, T, D]`` to logits ``[B, N, V]``.

        Args:
            lengths: positions of each row, those of this step included.
            positions: int64 ``[B, N]``, the positions of this step whose logits are wanted.
        """
        binding = cache.bindings.get((rows.start, rows.stop))
        if binding is None:
            binding = cache.bindings[rows.start, rows.stop] = self._bind_cache(cache, rows)
        inputs = {
            "inputs_embeds": embeds.to(device=self.device, dtype=self.dtype),
            "seqlens_k": torch.tensor(lengths, dtype=torch.int32, device=self.device) - 1,
            "total_sequence_length": torch.tensor(max(lengths), dtype=torch.int32),  # read by the host
            "logit_positions": positions[..., None].to(self.device),
        }
        inputs = {name: tensor.contiguous() for name, tensor in inputs.items()}
        for name, tensor in inputs.items():
            _bind(binding.bind_input, name, tensor)
        logits = torch.empty(*positions.shape, self.config.vocab_size, device=self.device)
        _bind(binding.bind_output, "logits", logits)
        self.session.run_with_iobinding(binding)
        if self.device.type != "cpu":
            binding.synchronize_outputs()
        return logits

    def _bind_cache(self, cache: KVCache, rows: slice):
        binding = self.session.io_binding()
        for source, target, buffer in zip(self.key_value_input_names, self.key_value_output_names, cache.buffers):
            _bind(binding.bind_input, source, buffer[rows])
            _bind(binding.bind_output, target, buffer[rows])
        return binding

    def generate(self, *args, **kwargs):
        """transformers' ``generate``, with PyTorch on one thread where ONNX Runtime computes on the CPU."""
        with _one_torch_thread() if self.device.type == "cpu" else nullcontext():
            return super().generate(*args, **kwargs)

    # What generate() asks of a model.

    def prepare_inputs_for_generation(
        self, input_ids, past_key_values=None, attention_mask=None, inputs_embeds=None, cache_position=None, **kwargs
    ) -> dict:
        # inputs_embeds is named, since generate() inspects this signature before it takes them.
        new = len(cache_position)
        return {
            "input_ids": input_ids[:, -new:] if inputs_embeds is None else None,
            "inputs_embeds": None if inputs_embeds is None else inputs_embeds[:, -new:],
            "attention_mask": attention_mask,
            "past_key_values": past_key_values,
            "logits_to_keep": kwargs.get("logits_to_keep") or 0,
        }

    def _get_initial_cache_position(self, seq_length, device, model_kwargs):
        if model_kwargs.get("cache_position") is None:
            mask, cache = model_kwargs.get("attention_mask"), model_kwargs.get("past_key_values")
            total = seq_length if mask is None else mask.shape[1]
            model_kwargs["cache_position"] = torch.arange(0 if cache is None else cache.get_seq_length(), total)
        return model_kwargs

    def _update_model_kwargs_for_generation(self, outputs, model_kwargs, *args, **kwargs):
        model_kwargs.pop("inputs_embeds", None)  # read by the first step
        return super()._update_model_kwargs_for_generation(outputs, model_kwargs, *args, **kwargs)

    def _prepare_cache_for_generation(
        self, generation_config, model_kwargs, generation_mode, batch_size, max_cache_length
    ) -> None:
        cache = model_kwargs.get("past_key_values")
        rows = batch_size * max(generation_config.num_beams, generation_config.num_return_sequences)
        if cache is None:
            model_kwargs["past_key_values"] = self.new_cache(max_cache_length, rows)
        elif isinstance(cache, KVCache):
            cache.reserve(max_cache_length)
        else:
            model_kwargs["past_key_values"] = KVCache.from_legacy(cache, max_cache_length)

    @staticmethod
    def _reorder_cache(past_key_values: KVCache, beam_idx: torch.LongTensor) -> KVCache:
        past_key_values.reorder_cache(beam_idx)
        return past_key_values


@contextmanager
def _one_torch_thread() -> Iterator[None]:
    """PyTorch is left the choice of the next token, and its threads and ONNX Runtime's wait actively for work: on two
    cores each took the other's: an int4 token of a 0.5B model took 22 ms, of which ONNX Runtime needed 13."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _bind(bind, name: str, tensor: torch.Tensor) -> None:
    device = tensor.device
    bind(name, device.type, device.index or 0, _NUMPY[tensor.dtype], tuple(tensor.shape), tensor.data_ptr())


_NUMPY = {torch.float32: np.float32, torch.float16: np.float16, torch.int32: np.int32, torch.int64: np.int64}


def open_decoder(bundle: Bundle, *, threads: int | None = None, provider: str | None = None) -> EmbedsDecoder:
    """Load a bundle's language model.

    Args:
        threads: of the CPU; default: the cores that this process may use.
        provider: a name of :data:`laco_engines.providers.PROVIDERS`; default: the best that is there.

    Raises:
        BundleError: ONNX Runtime or transformers cannot load it, or its generation_config.json has a field that
            :mod:`laco_export.generation_fields` does not list.
        UsageError, ProviderMissingError: the provider is unknown or does not start.
    """
    entry = bundle.manifest.decoder
    read_generation_fields(bundle)  # which transformers reads too: a field that is not allowed is refused first
    chosen = _choose(provider)
    table = open_embedding(bundle)
    with loading_decoder(bundle, "onnxruntime and optimum-onnx"), quiet_libraries():
        decoder = EmbedsDecoder.from_pretrained(
            str(bundle.file(entry.folder)),
            file_name=bundle.file(entry.graph).name,
            session_options=session_options(threads=threads),
            providers=[name for name, _ in chosen.session_providers()],
            provider_options=[options for _, options in chosen.session_providers()],
            local_files_only=True,
        )
    if provider is not None:
        check_provider(decoder.session, chosen)
    decoder.embedding_table = table
    return decoder


def _choose(name: str | None) -> Provider:
    provider = choose_provider(name)
    if not on_gpu(provider.execution_provider) or torch.cuda.is_available():
        return provider
    if name is not None:  # the cache and the embeddings are tensors of that device
        raise ProviderMissingError(
            f"the execution provider '{name}' needs a PyTorch that sees the GPU",
            given=f"torch {torch.__version__}, torch.cuda.is_available() is False",
            todo="install PyTorch with CUDA, or leave --provider out",
        )
    return choose_provider("cpu")
