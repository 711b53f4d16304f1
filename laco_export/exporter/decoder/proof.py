"""The exported decoder against PyTorch: the same logits, in one pass and through its KV cache.

A quantised decoder is gated against PyTorch with the rounded weights that it stores, which shows that its graph is
right. What the rounding costs is a property of the model; it is measured and reported beside.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...bundle import Decoder
from ...embedding_table import EmbeddingTable
from ...errors import ExportError
from ...onnx_session import open_session
from ...quiet import quiet_libraries
from .precision import DECODER_PRECISIONS

_PROMPT_TOKENS = 24  # a third of them noise, as pictures are to the model
_CACHED_STEPS = 4
_SAMPLED_ROWS = 256  # of the embedding


@dataclass(frozen=True)
class LogitsTolerance:
    """How far logits may be from PyTorch's.

    Attributes:
        cosine: of the worst position, at least.
        norm_drift: relative difference of the norms, at most.
        margin: where PyTorch's best logit leads by more than this many standard deviations of the logits, the exported
            decoder must choose the same token.
    """

    cosine: float
    norm_drift: float
    margin: float


LOGITS_TOLERANCES = {
    # FP32 against FP32: only the order of summation differs, so the gates are those of the FP32 vision graph.
    "fp32": LogitsTolerance(0.9999, 1e-3, 0.02),
    # 10 bits of mantissa through the layers, as the FP16 vision graph.
    "fp16": LogitsTolerance(0.999, 1e-2, 0.1),
    # Activations of 8 bits, a scale for each block of them, against PyTorch with the same rounded weights.
    "int8": LogitsTolerance(0.99, 3e-2, 0.5),
    "int4": LogitsTolerance(0.99, 3e-2, 0.5),
}


def verify_decoder(language_model, output_folder: Path, decoder: Decoder) -> dict:
    """Compare the exported decoder with PyTorch on one prompt of text and visual-like embeddings.

    Twice: the whole prompt at once, and its last four positions one by one through the KV cache.

    Returns:
        for the manifest's accuracy: ``{"prompt_tokens", "cached_steps", "embedding_error", "whole": {…}, "cached":
        {…}}`` where each part has ``cosine``, ``norm_ratio``, ``max_abs`` (of the logits) and ``same_best_token`` (a
        share in 0 … 1); of a quantised decoder also ``"rounding"``: the rounded weights in PyTorch against the given
        ones.

    Raises:
        ExportError: the embedding rows are not the model's; or the logits are further from PyTorch's than
            :data:`LOGITS_TOLERANCES` allows this precision.
    """
    import torch

    weight = language_model.get_input_embeddings().weight
    embedding_error = _check_embedding(weight, EmbeddingTable(output_folder, decoder.embedding), decoder.precision)
    embeds = _prompt_embeds(weight)  # [1, T, D]
    inputs, graph = torch.from_numpy(embeds).to(weight.dtype), Path(output_folder) / decoder.graph
    precision, rounding = DECODER_PRECISIONS[decoder.precision], {}
    with torch.inference_mode(), quiet_libraries():
        expected = language_model(inputs_embeds=inputs).logits.float().numpy()[0]  # [T, V]
        if not np.isfinite(expected).all():
            raise ExportError(
                "the language model gives inf or NaN in PyTorch",
                todo="look for extreme values in the checkpoint's weights; nothing could be compared with them",
            )
        if precision.bits is not None:
            from .rounded import rounded_weights

            with rounded_weights(language_model, graph, precision):
                rounded = language_model(inputs_embeds=inputs).logits.float().numpy()[0]
            rounding, expected = {"rounding": _compare(expected, rounded)}, rounded
    session = _session(graph)
    whole, _ = _run(session, embeds, None)
    logits, cache = _run(session, embeds[:, :-_CACHED_STEPS], None)
    for position in range(_PROMPT_TOKENS - _CACHED_STEPS, _PROMPT_TOKENS):
        step, cache = _run(session, embeds[:, position : position + 1], cache)
        logits = np.concatenate([logits, step])
    report = {
        "prompt_tokens": _PROMPT_TOKENS,
        "cached_steps": _CACHED_STEPS,
        "embedding_error": embedding_error,
        "whole": _compare(expected, whole),
        "cached": _compare(expected, logits),
        **rounding,
    }
    for name, actual in (("whole", whole), ("cached", logits)):
        _gate(name, report[name], expected, actual, LOGITS_TOLERANCES[decoder.precision])
    return report


def _check_embedding(weight, table: EmbeddingTable, precision: str) -> float:
    """The largest relative error of a row among evenly spaced ones; float32 rows must be the model's bit by bit."""
    ids = np.unique(np.linspace(0, len(weight) - 1, _SAMPLED_ROWS).astype(np.int64))
    expected, actual = weight.detach()[ids].float().numpy(), table.rows(ids)
    norms = np.maximum(np.linalg.norm(expected, axis=1), 1e-30)
    error = float((np.linalg.norm(actual - expected, axis=1) / norms).max())
    # Rounding to float16 moves a value by 2^-11 at most; to 8 bits by half a step of 1/128 of a block's largest value.
    allowed = {"float32": 0.0, "float16": 2.0**-11, "uint8": 2e-2}[table.storage.rows.dtype]
    if not error <= allowed:  # so that NaN on disk is refused too
        raise ExportError(
            "the embedding rows on disk are not the model's",
            given=f"a row that differs by {error:.2%}, in precision {precision}",
            allowed=f"{allowed:.2%}",
        )
    return error


def _prompt_embeds(weight) -> np.ndarray:
    """Embeddings of random tokens, the middle third replaced by noise of their size: float32 ``[1, T, D]``."""
    generator = np.random.default_rng(0)
    embeds = weight.detach()[generator.integers(0, len(weight), _PROMPT_TOKENS)].float().numpy().copy()
    third = _PROMPT_TOKENS // 3
    embeds[third : 2 * third] = generator.normal(0, max(float(embeds.std()), 1e-3), (third, embeds.shape[1]))
    return embeds[None]


def _session(path: Path):
    try:
        return open_session(path)
    except ImportError:
        raise ExportError(
            "the decoder cannot be compared with PyTorch: ONNX Runtime is not installed",
            todo="pip install 'laco-export[cpu]'",
        ) from None


def _run(session, embeds: np.ndarray, cache: dict | None) -> tuple[np.ndarray, dict]:
    """One pass over all positions: logits ``[T, V]`` and the KV cache by input name."""
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
    feed = {
        "inputs_embeds": embeds.astype(dtype),
        "seqlens_k": np.array([total - 1], np.int32),
        "total_sequence_length": np.array(total, np.int32),
        "logit_positions": np.arange(length, dtype=np.int64)[None, :, None],
    }
    outputs = session.run(None, feed | cache)
    named = dict(zip([output.name for output in session.get_outputs()], outputs))
    logits = named.pop("logits")[0]
    return logits, {name.replace("present", "past_key_values"): value for name, value in named.items()}


def _compare(expected: np.ndarray, actual: np.ndarray) -> dict:
    """Two sets of logits ``[T, V]``: the worst position's cosine and norm ratio, and the largest error."""
    expected, actual = expected.astype(np.float64), actual.astype(np.float64)
    norms, norms_actual = np.linalg.norm(expected, axis=1), np.linalg.norm(actual, axis=1)
    cosines = (expected * actual).sum(1) / np.maximum(norms * norms_actual, 1e-30)
    ratios = norms_actual / np.maximum(norms, 1e-30)
    return {
        "cosine": float(cosines.min()),
        "norm_ratio": float(ratios[np.abs(ratios - 1).argmax()]),
        "max_abs": float(np.abs(expected - actual).max()),
        "same_best_token": float((expected.argmax(1) == actual.argmax(1)).mean()),
    }


def _gate(name: str, values: dict, expected: np.ndarray, actual: np.ndarray, tolerance: LogitsTolerance) -> None:
    best_two = np.partition(expected, -2, axis=1)[:, -2:]
    decided = best_two[:, 1] - best_two[:, 0] > tolerance.margin * expected.std(1)
    same = (expected.argmax(1) == actual.argmax(1))[decided].all()
    close = values["cosine"] >= tolerance.cosine and abs(values["norm_ratio"] - 1) <= tolerance.norm_drift
    if close and same:
        return
    way = "in one pass" if name == "whole" else "with its KV cache"
    raise ExportError(
        f"the exported language model, run {way}, does not compute what PyTorch computes",
        given=", ".join(f"{key} {value:.6g}" for key, value in values.items())
        + ("" if same else ", another token where PyTorch's is clear"),
        allowed=f"cosine of at least {tolerance.cosine}, norms within {tolerance.norm_drift:.1%}",
        todo="report this with the language model's config.json",
    )
