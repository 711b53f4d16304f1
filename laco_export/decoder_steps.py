"""One pass of a bundle's decoder in ONNX Runtime, over a prompt or a step: numpy in, numpy out, without PyTorch."""

from __future__ import annotations

import numpy as np


def run_decoder(
    session, embeds: np.ndarray, cache: dict | None, wanted: np.ndarray | None = None
) -> tuple[np.ndarray, dict]:
    """Embeddings ``[1, T, D]`` to logits ``[N, V]`` and the KV cache by input name.

    Args:
        cache: of the positions before; None for none.
        wanted: the positions of this pass whose logits are asked for, ``[N]``; None for all.
    """
    inputs = {value.name: value for value in session.get_inputs()}
    dtype = np.float16 if inputs["inputs_embeds"].type == "tensor(float16)" else np.float32
    if cache is None:
        cache = {
            name: np.zeros((1, value.shape[1], 0, value.shape[3]), dtype)
            for name, value in inputs.items()
            if name.startswith("past_key_values")
        }
    length = embeds.shape[1]
    total = next(iter(cache.values())).shape[2] + length
    positions = np.arange(length) if wanted is None else wanted
    feed = {
        "inputs_embeds": embeds.astype(dtype),
        "seqlens_k": np.array([total - 1], np.int32),
        "total_sequence_length": np.array(total, np.int32),
        "logit_positions": positions.astype(np.int64)[None, :, None],
    }
    outputs = session.run(None, feed | cache)
    named = dict(zip([output.name for output in session.get_outputs()], outputs))
    logits = named.pop("logits")[0]
    return logits, {name.replace("present", "past_key_values"): value for name, value in named.items()}
