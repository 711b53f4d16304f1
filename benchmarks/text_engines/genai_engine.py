"""A folder of onnxruntime-genai's own model builder (``pip install onnxruntime-genai``)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from . import scoring


class GenAI:
    """A generator a prompt."""

    def __init__(self, path: Path):
        import onnxruntime_genai

        self._package = onnxruntime_genai
        config = onnxruntime_genai.Config(str(path))
        options = {"intra_op_num_threads": 1, "inter_op_num_threads": 1}
        config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
        self._model = onnxruntime_genai.Model(config)

    def generate(self, ids: list[int], count: int, note: Callable[[], None]) -> list[int]:
        generator, answer = self._generator(len(ids) + count, least=len(ids) + count), []
        generator.append_tokens(np.array(ids, np.int32))
        while len(answer) < count:
            generator.generate_next_token()
            answer.append(int(generator.get_next_tokens()[0]))
            note()
        return answer

    def negative_log_likelihood(self, ids: list[int]) -> float:
        generator = self._generator(len(ids) + 1)
        generator.append_tokens(np.array(ids, np.int32))
        logits = np.asarray(generator.get_output("logits"), np.float32)
        return scoring.negative_log_likelihood(logits.reshape(len(ids), -1), ids)

    def _generator(self, positions: int, least: int = 0):
        parameters = self._package.GeneratorParams(self._model)
        parameters.set_search_options(max_length=positions, min_length=least, do_sample=False)
        return self._package.Generator(self._model, parameters)
