"""The exported decoder against PyTorch: the same logits, in one pass and through its KV cache."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..bundle import Decoder
from ..errors import ExportError
from ..quiet import quiet_libraries

MIN_COSINE = 0.9999
MAX_NORM_DRIFT = 1e-3
"""FP32 against FP32: only the order of summation differs, so the gates are those of the FP32 vision graph."""


def verify_decoder(
    language_model, output_folder: Path, decoder: Decoder, *, prompt_tokens: int = 24, steps: int = 4
) -> dict:
    """Compare the exported decoder with PyTorch on one prompt of text and visual-like embeddings.

    Twice: the whole prompt at once, and its last ``steps`` positions one by one through the KV cache.

    Returns:
        for the manifest's accuracy: ``{"prompt_tokens", "cached_steps", "whole": {…}, "cached": {…}}`` where each part
        has ``cosine``, ``norm_ratio``, ``max_abs`` (of the logits) and ``same_best_token`` (a share in 0 … 1).

    Raises:
        ExportError: the embedding table is not the model's; cosine below :data:`MIN_COSINE`; norms further apart than
            :data:`MAX_NORM_DRIFT`; or another best token where PyTorch's margin is larger than the logits' difference.
    """
    import torch

    table = np.load(Path(output_folder) / decoder.embedding_table, mmap_mode="r")  # [V, D]
    if not np.array_equal(table, language_model.get_input_embeddings().weight.detach().float().numpy()):
        raise ExportError("the embedding table on disk is not the model's", given=decoder.embedding_table)
    embeds = _prompt_embeds(table, prompt_tokens)  # [1, T, D]
    with torch.inference_mode(), quiet_libraries():
        expected = language_model(inputs_embeds=torch.from_numpy(embeds)).logits.float().numpy()[0]  # [T, V]
    session = _session(Path(output_folder) / decoder.graph)
    whole, _ = _run(session, embeds, None)
    logits, cache = _run(session, embeds[:, :-steps], None)
    for position in range(prompt_tokens - steps, prompt_tokens):
        step, cache = _run(session, embeds[:, position : position + 1], cache)
        logits = np.concatenate([logits, step])
    report = {
        "prompt_tokens": prompt_tokens,
        "cached_steps": steps,
        "whole": _compare(expected, whole),
        "cached": _compare(expected, logits),
    }
    for name in ("whole", "cached"):
        _gate(name, report[name])
    return report


def _prompt_embeds(table: np.ndarray, tokens: int) -> np.ndarray:
    """Embeddings of random tokens, the middle third replaced by noise of their size: float32 ``[1, tokens, D]``."""
    generator = np.random.default_rng(0)
    embeds = np.asarray(table[generator.integers(0, table.shape[0], tokens)], np.float32)
    third = tokens // 3
    embeds[third : 2 * third] = generator.normal(0, max(float(embeds.std()), 1e-3), (third, embeds.shape[1]))
    return embeds[None]


def _session(path: Path):
    try:
        import onnxruntime
    except ImportError:
        raise ExportError(
            "the decoder cannot be compared with PyTorch: ONNX Runtime is not installed",
            todo="pip install 'laco-export[cpu]'",
        ) from None
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _run(session, embeds: np.ndarray, cache: dict | None) -> tuple[np.ndarray, dict]:
    """One pass: logits ``[T, V]`` and the KV cache by input name."""
    inputs = {value.name: value for value in session.get_inputs()}
    if cache is None:
        cache = {
            name: np.zeros((1, value.shape[1], 0, value.shape[3]), np.float32)
            for name, value in inputs.items()
            if name.startswith("past_key_values")
        }
    past, length = next(iter(cache.values())).shape[2], embeds.shape[1]
    feed = {
        "inputs_embeds": embeds,
        "attention_mask": np.ones((1, past + length), np.int64),
        "position_ids": np.arange(past, past + length, dtype=np.int64)[None],
    }
    outputs = session.run(None, {name: value for name, value in feed.items() if name in inputs} | cache)
    named = dict(zip([output.name for output in session.get_outputs()], outputs))
    logits = named.pop("logits")[0].astype(np.float32)
    return logits, {name.replace("present", "past_key_values"): value for name, value in named.items()}


def _compare(expected: np.ndarray, given: np.ndarray) -> dict:
    """Two sets of logits ``[T, V]``: the worst position's cosine and norm ratio, and the largest error."""
    expected, given = expected.astype(np.float64), given.astype(np.float64)
    norms, norms_given = np.linalg.norm(expected, axis=1), np.linalg.norm(given, axis=1)
    cosines = (expected * given).sum(1) / np.maximum(norms * norms_given, 1e-30)
    ratios = norms_given / np.maximum(norms, 1e-30)
    errors = np.abs(expected - given)
    best_two = np.partition(expected, -2, axis=1)[:, -2:]
    decided = best_two[:, 1] - best_two[:, 0] > 2 * errors.max(1)  # a smaller margin lets rounding choose
    same = expected.argmax(1) == given.argmax(1)
    return {
        "cosine": float(cosines.min()),
        "norm_ratio": float(ratios[np.abs(ratios - 1).argmax()]),
        "max_abs": float(errors.max()),
        "same_best_token": float(same.mean()),
        "same_where_decided": bool(same[decided].all()),
    }


def _gate(name: str, values: dict) -> None:
    close = values["cosine"] >= MIN_COSINE and abs(values["norm_ratio"] - 1) <= MAX_NORM_DRIFT
    if close and values["same_where_decided"]:
        return
    way = "in one pass" if name == "whole" else "with its KV cache"
    raise ExportError(
        f"the exported language model, run {way}, does not compute what PyTorch computes",
        given=", ".join(f"{key} {value:.6g}" for key, value in values.items()),
        allowed=f"cosine of at least {MIN_COSINE}, norms within {MAX_NORM_DRIFT:.1%}",
        todo="report this with the language model's config.json",
    )
