"""The language model in ONNX Runtime alone, fed with embeddings: one pass over prompts, and a step a token.

A decode step's inputs and outputs are bound once: a step writes a token's embedding and each row's length into memory
that is bound already, runs, and reads the logits from where they stand. numpy and ONNX Runtime, no PyTorch.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from laco_export.bundle import Bundle
from laco_export.embedding_table import EmbeddingTable
from laco_export.errors import UsageError
from laco_export.onnx_session import open_session

from ..providers import check_provider, choose_provider, load_libraries, on_gpu
from .language_files import loading_decoder, open_embedding
from .lean_cache import OrtKVCache


class LeanDecoder:
    """A decoder graph with its embedding.

    Args:
        session: of a bundle's decoder graph.
        embedding_table: of the same bundle.

    Attributes:
        provider: ONNX Runtime's name of the execution provider that computes.
        dtype: of embeddings and KV cache, float32 or float16.
    """

    def __init__(self, session, embedding_table: EmbeddingTable):
        self.session, self.embedding_table = session, embedding_table
        inputs = {value.name: value for value in session.get_inputs()}
        self.provider = session.get_providers()[0]
        self.dtype = np.float16 if inputs["inputs_embeds"].type == "tensor(float16)" else np.float32
        self.device = "cuda" if on_gpu(self.provider) else "cpu"
        self.past_names = [name for name in inputs if name.startswith("past_key_values.")]
        _, self._kv_heads, _, self._head_dim = inputs[self.past_names[0]].shape
        self.vocab_size, self.hidden_size = embedding_table.shape

    def embed(self, token_ids: np.ndarray) -> np.ndarray:
        """Token ids ``[...]`` to embeddings, float32 ``[..., D]``."""
        return self.embedding_table.rows(token_ids)

    def new_cache(self, capacity: int, batch: int = 1) -> OrtKVCache:
        """An empty cache for ``capacity`` positions."""
        layers = len(self.past_names) // 2
        return OrtKVCache(layers, batch, self._kv_heads, self._head_dim, capacity, self.dtype, self.device)

    def prefill(self, embeds: Sequence[np.ndarray], cache: OrtKVCache, logits_to_keep: int = 1) -> np.ndarray:
        """Read prompts, each behind what its row of the cache holds: several only into an empty cache.

        Args:
            embeds: float32 ``[T, D]`` of each row, of any lengths.
            logits_to_keep: of so many of each row's last positions, which it has.

        Returns:
            logits, float32 ``[B, logits_to_keep, V]``.
        """
        counts = [len(row) for row in embeds]
        if len(counts) > 1 and max(cache.lengths) > 0:
            raise ValueError("ONNX Runtime's attention continues rows of a batch by one token at a time")
        cache.reserve(max(held + count for held, count in zip(cache.lengths, counts, strict=True)))
        bound = _BoundPass(self, cache, max(counts), logits_to_keep)
        for row, (rows, count) in enumerate(zip(embeds, counts)):  # shorter ones are padded behind their end
            bound.embeds[row, :count] = rows
            bound.positions[row, :, 0] = np.arange(count - logits_to_keep, count)
        return bound.run(counts)

    def step(self, tokens: Sequence[int], cache: OrtKVCache, goes_on: Sequence[bool]) -> np.ndarray:
        """Read one token more in each row.

        Args:
            goes_on: False for rows whose answer has ended: what they are given is forgotten again.

        Returns:
            logits, float32 ``[B, V]``; valid until the next step.
        """
        cache.reserve(max(cache.lengths) + 1)
        bound = cache.bindings.get("step")
        if bound is None:
            bound = cache.bindings["step"] = _BoundPass(self, cache, 1, 1)
        bound.embeds[:, 0] = self.embed(np.asarray(tokens))
        before = list(cache.lengths)
        logits = bound.run([1] * len(tokens))
        cache.lengths = [held + bool(on) for held, on in zip(before, goes_on, strict=True)]
        return logits[:, 0]

    def read(self, tokens: Sequence[int], cache: OrtKVCache) -> np.ndarray:
        """Read several tokens more in a cache of one row.

        Returns:
            the logits behind each, float32 ``[T, V]``; valid until as many are read again.
        """
        if cache.batch > 1:
            raise ValueError("ONNX Runtime's attention continues rows of a batch by one token at a time")
        cache.reserve(max(cache.lengths) + len(tokens))
        bound = cache.bindings.get(len(tokens))
        if bound is None:
            bound = cache.bindings[len(tokens)] = _BoundPass(self, cache, len(tokens), len(tokens))
            bound.positions[0, :, 0] = np.arange(len(tokens))
        bound.embeds[0] = self.embed(np.asarray(tokens))
        return bound.run([len(tokens)])[0]

    def generate(self, *_, **arguments):
        """Not here: beams and whatever else is transformers' ``generate``'s are Optimum's.

        Raises:
            UsageError: always.
        """
        raise UsageError(
            "the lean text runtime has no generate() of transformers: no beams, no streamers, no several sequences",
            given=", ".join(arguments) or None,
            todo="open the bundle with text_runtime='optimum' (--text-runtime optimum; pip install "
            "'laco-export[llm]'), or answer by laco_engines.answering.Answerer.generate",
        )


class _BoundPass:
    """The memory of one pass's inputs and logits, bound to the session beside a cache's buffers.

    Attributes:
        embeds: ``[B, T, D]`` of the decoder's dtype, positions ``[B, N, 1]`` int64: to be written before :meth:`run`.
    """

    def __init__(self, decoder: LeanDecoder, cache: OrtKVCache, length: int, logits_to_keep: int):
        batch = cache.batch
        self._decoder, self._cache = decoder, cache
        self.embeds = np.zeros((batch, length, decoder.hidden_size), decoder.dtype)
        self.positions = np.zeros((batch, logits_to_keep, 1), np.int64)
        self._last_positions = np.zeros(batch, np.int32)  # of each row, this pass included
        self._longest = np.zeros((), np.int32)
        self._logits = np.empty((batch, logits_to_keep, decoder.vocab_size), np.float32)
        self._binding = self._bind()

    def run(self, counts: Sequence[int]) -> np.ndarray:
        """Compute, and count ``counts`` positions more in the cache's rows: float32 ``[B, N, V]``."""
        lengths = [held + count for held, count in zip(self._cache.lengths, counts, strict=True)]
        self._last_positions[:] = lengths
        self._last_positions -= 1
        self._longest[...] = max(lengths)
        if self._decoder.device != "cpu":  # what a GPU reads is copied there when it is bound
            self._bind_inputs(self._binding)
        self._decoder.session.run_with_iobinding(self._binding)
        if self._decoder.device != "cpu":
            self._binding.synchronize_outputs()
        self._cache.lengths = lengths
        return self._logits

    def _bind(self):
        binding, cache = self._decoder.session.io_binding(), self._cache
        for name, value in zip(self._decoder.past_names, cache.values, strict=True):
            binding.bind_ortvalue_input(name, value)
            binding.bind_ortvalue_output(name.replace("past_key_values", "present"), value)
        logits = self._logits
        binding.bind_output("logits", "cpu", 0, np.float32, logits.shape, logits.ctypes.data)
        self._bind_inputs(binding)
        return binding

    def _bind_inputs(self, binding) -> None:
        for name, array in (
            ("inputs_embeds", self.embeds),
            ("seqlens_k", self._last_positions),
            ("total_sequence_length", self._longest),
            ("logit_positions", self.positions),
        ):
            binding.bind_input(name, "cpu", 0, array.dtype.type, array.shape, array.ctypes.data)


def open_lean_decoder(bundle: Bundle, *, threads: int | None = None, provider: str | None = None) -> LeanDecoder:
    """Load a bundle's language model; arguments and errors as of
    :func:`~laco_engines.generation.decoder.open_decoder`."""
    chosen = choose_provider(provider)
    table, graph = open_embedding(bundle), bundle.file(bundle.manifest.decoder.graph)
    load_libraries(chosen)
    with loading_decoder(bundle, "onnxruntime"):
        session = open_session(graph, providers=chosen.session_providers(), threads=threads)
    if provider is not None:
        check_provider(session, chosen)
    return LeanDecoder(session, table)
