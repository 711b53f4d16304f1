"""A GGUF file in llama.cpp, through its C interface (``pip install llama-cpp-python``)."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from . import scoring

CONTEXT = 512  # positions, and those of a batch


def load_backends() -> None:
    """ggml's libraries of the processors, where they lie apart: ``GGML_LIBRARIES`` names their folder."""
    folder = os.environ.get("GGML_LIBRARIES")
    if folder:
        load = ctypes.CDLL(str(Path(folder) / "libggml.so")).ggml_backend_load_all_from_path
        load(folder.encode())


class LlamaCpp:
    """One sequence in a context of :data:`CONTEXT` positions."""

    def __init__(self, path: Path):
        load_backends()
        from llama_cpp import llama_cpp as api

        self._api = api
        api.llama_backend_init()
        self._silent = api.llama_log_callback(lambda level, text, data: None)  # ctypes does not hold it
        api.llama_log_set(self._silent, None)
        self._model = api.llama_model_load_from_file(str(path).encode(), api.llama_model_default_params())
        if not self._model:
            sys.exit(f"llama.cpp cannot read {path}")
        parameters = api.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = CONTEXT
        parameters.n_threads = parameters.n_threads_batch = 1
        self._context = api.llama_init_from_model(self._model, parameters)
        self._vocabulary = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self._model))

    def generate(self, ids: list[int], count: int, note: Callable[[], None]) -> list[int]:
        self._forget()
        logits, answer = self._logits(ids, 0), []
        while True:
            answer.append(int(logits[0].argmax()))
            note()
            if len(answer) == count:
                return answer
            logits = self._logits(answer[-1:], len(ids) + len(answer) - 1)

    def negative_log_likelihood(self, ids: list[int]) -> float:
        self._forget()
        return scoring.negative_log_likelihood(self._logits(ids, 0, everywhere=True), ids)

    def _forget(self) -> None:
        self._api.llama_memory_clear(self._api.llama_get_memory(self._context), True)

    def _logits(self, ids: list[int], start: int, everywhere: bool = False) -> np.ndarray:
        """float32 ``[1 or T, V]`` of tokens behind ``start`` positions; valid until the next call."""
        batch = self._api.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for number, token in enumerate(ids):
            batch.token[number], batch.pos[number] = int(token), start + number
            batch.n_seq_id[number], batch.seq_id[number][0] = 1, 0
            batch.logits[number] = everywhere or number == len(ids) - 1
        if self._api.llama_decode(self._context, batch):
            sys.exit("llama.cpp cannot decode")
        self._api.llama_batch_free(batch)
        pointer = ctypes.cast(self._api.llama_get_logits(self._context), ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(pointer, (len(ids) if everywhere else 1, self._vocabulary))
