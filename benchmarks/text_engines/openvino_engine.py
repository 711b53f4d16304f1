"""A GGUF file in OpenVINO GenAI (``pip install openvino-genai``)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from . import scoring

GRAPH = "openvino_model.xml"
ONE_THREAD = {"INFERENCE_NUM_THREADS": 1}


class OpenVINO:
    """Its pipeline for answers; the graph that it makes of the file, which it writes beside it, for logits."""

    def __init__(self, path: Path):
        import openvino
        import openvino_genai

        self._openvino, self._genai = openvino, openvino_genai
        self._pipeline = openvino_genai.LLMPipeline(str(path), "CPU", enable_save_ov_model=True, **ONE_THREAD)
        self._graph = path.parent / GRAPH

    def generate(self, ids: list[int], count: int, note: Callable[[], None]) -> list[int]:
        config = self._genai.GenerationConfig()
        config.max_new_tokens, config.do_sample, config.ignore_eos = count, False, True
        prompt = self._openvino.Tensor(np.array([ids], np.int64))
        return list(self._pipeline.generate(prompt, config, self._streamer(note)).tokens[0])

    def negative_log_likelihood(self, ids: list[int]) -> float:
        compiled = self._openvino.Core().compile_model(str(self._graph), "CPU", ONE_THREAD)
        tokens = np.array([ids], np.int64)
        feeds = {
            "input_ids": tokens,
            "attention_mask": np.ones_like(tokens),
            "position_ids": np.arange(len(ids), dtype=np.int64)[None],
            "beam_idx": np.zeros(1, np.int32),
        }
        logits = compiled.create_infer_request().infer(feeds)["logits"]
        return scoring.negative_log_likelihood(np.asarray(logits, np.float32)[0], ids)

    def _streamer(self, note: Callable[[], None]):
        package = self._genai

        class Noted(package.StreamerBase):
            def write(self, token):
                note()
                return package.StreamingStatus.RUNNING

            def end(self) -> None:
                pass

        return Noted()
