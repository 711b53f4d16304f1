"""Is the exported decoder's graph right? The same logits as PyTorch's, in one pass and through its KV cache.

A quantised decoder is held to three things:

- each block of weights that is stored, against the block that it was made of: a scale that is wrong by more than
  :data:`BLOCK_SCALE_DRIFT` in one block of one layer is found;
- the graph at float activations against PyTorch with the stored weights: both then compute the same, so FP32's
  tolerance holds (that the shipped graph rounds activations to 8 bits besides is its operator's attribute);
- rows of the embedding against the model's.

What rounding cost is another question: :mod:`.rounding_cost` answers it with the graph as it is shipped.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...bundle import Decoder
from ...decoder_steps import run_decoder
from ...embedding_table import EmbeddingTable
from ...errors import ExportError
from ...quiet import quiet_libraries
from .precision import DECODER_PRECISIONS, MAX_KL, DecoderPrecision
from .prompts import DecoderPrompts, random_prompts
from .reduced_head import among, require_left_out
from .rounding_cost import given_logits, measure_cost, require_cheap
from .skeleton import HEAD
from .stepping import decoder_session, float_activations

_PROMPT_TOKENS = 24  # of random tokens, a third of them noise: for a model without a tokenizer
_PROOF_PROMPTS, _PROOF_TOKENS = 3, 96  # real ones: a picture's and two of text, from their first positions on
_CACHED_STEPS = 4
_SAMPLED_ROWS = 256  # of the embedding
_LEAST_SHARE = 0.05  # of its row's mean square a block, to be looked at by itself
_BLOCK_ROWS = 2048  # of a matrix, compared at a time


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
    # At float activations, against PyTorch with the same rounded weights: as FP32.
    "int8": LogitsTolerance(0.9999, 1e-3, 0.02),
    "int4": LogitsTolerance(0.9999, 1e-3, 0.02),
}

BLOCK_SCALE_DRIFT = {8: 0.05, 4: 0.6}
"""How far from 1 the factor of a stored block over the given one may be, by bits. Errors made good by later weights
leave 0.37 in the worst of SmolLM2's 850,000 blocks of four bits."""


def verify_decoder(
    language_model,
    output_folder: Path,
    decoder: Decoder,
    prompts: DecoderPrompts | None = None,
    max_kl: float | None = MAX_KL,
    *,
    token_ids: np.ndarray | None = None,
) -> dict:
    """Prove the exported decoder's graph against PyTorch, and measure what its rounding costs.

    The graph is run twice: a whole prompt at once, and its last four positions one by one through the KV cache.

    Args:
        prompts: real positions; None for random tokens and noise, on which rounding is measured and never refused.
        max_kl: nats a token in the mean that rounding may cost; None refuses nothing.
        token_ids: int64 ``[K]``, ascending: the tokens that the head has rows for; None for all. Their logits alone are
            compared, and the others' are ``-inf``.

    Returns:
        for the manifest's accuracy: ``{"prompt_tokens", "cached_steps", "embedding_error", "activations", "whole": {…},
        "cached": {…}}`` where each part has ``cosine``, ``norm_ratio``, ``max_abs`` (of the logits) and
        ``same_best_token`` (a share in 0 … 1), the worst over the prompts; below FP32, and with a reduced vocabulary,
        also ``"cost"``: the fields of :class:`~.rounding_cost.RoundingCost`, and ``"max_kl"``.

    Raises:
        ExportError: the embedding rows or a stored block are not the model's; the logits are further from PyTorch's
            than :data:`LOGITS_TOLERANCES` allows; or rounding costs more than ``max_kl``.
    """
    weight = language_model.get_input_embeddings().weight
    embedding_error = _check_embedding(weight, EmbeddingTable(output_folder, decoder.embedding), decoder.precision)
    precision, graph = DECODER_PRECISIONS[decoder.precision], Path(output_folder) / decoder.graph
    with quiet_libraries():
        if precision.bits is not None:
            check_blocks(language_model, graph, precision, token_ids)
        report = _prove_graph(language_model, graph, precision, _proof_embeds(weight, prompts), token_ids)
        report["embedding_error"] = embedding_error
        if precision.name == "fp32" and token_ids is None:
            return report
        judged = random_prompts(len(weight)) if prompts is None else prompts
        cost = measure_cost(language_model, decoder_session(graph), decoder, judged, token_ids)
        if max_kl is not None and prompts is not None:
            require_cheap(cost, language_model, graph, precision, judged, max_kl, token_ids)
    return {**report, "cost": cost.to_manifest(), "max_kl": max_kl if prompts is not None else None}


def check_blocks(language_model, graph: Path, precision: DecoderPrecision, token_ids: np.ndarray | None = None) -> None:
    """Compare each stored block of each layer with the weights that it was made of.

    Rounding turns a block a little and scales it by next to nothing; a wrong scale, a wrong zero point or another
    block's weights do not.

    Args:
        token_ids: those of the head's rows; None for all.

    Raises:
        ExportError: a block is not the model's.
    """
    from .rounded import stored_matrices

    for name, matrix in stored_matrices(language_model, graph, precision).items():
        given_weight = language_model.get_submodule(name).weight.detach()
        if name == HEAD and token_ids is not None:
            given_weight = given_weight[token_ids]
        allowed = BLOCK_SCALE_DRIFT[matrix.bits]
        for start in range(0, len(given_weight), _BLOCK_ROWS):
            rows = slice(start, start + _BLOCK_ROWS)
            drift = block_drift(given_weight[rows].float().numpy(), matrix.dequantized(rows), matrix.block_size)
            row, block = np.unravel_index(int(drift.argmax()), drift.shape)
            if not drift[row, block] <= allowed:
                raise ExportError(
                    f"the weights stored of '{name}' are not the language model's",
                    given=f"block {block} of row {start + row} is off by a factor of {drift[row, block]:.2f} from 1",
                    allowed=f"at most {allowed} with {matrix.bits} bits",
                    todo="report this with the language model's config.json",
                )


def block_drift(expected: np.ndarray, stored: np.ndarray, block_size: int) -> np.ndarray:
    """``[N, blocks]``: how far from 1 the factor is by which each block of ``stored [N, K]`` scales ``expected``."""
    columns = expected.shape[1]
    padding = ((0, 0), (0, -columns % block_size))
    given_blocks, stored_blocks = (
        np.pad(matrix, padding).reshape(len(matrix), -1, block_size) for matrix in (expected, stored)
    )
    products = np.einsum("nbk,nbk->nb", given_blocks, stored_blocks)
    squares = np.einsum("nbk,nbk->nb", given_blocks, given_blocks)
    # A block next to nothing beside its row's others may take up more of their errors than it holds itself.
    counted = np.maximum(squares, _LEAST_SHARE * squares.mean(-1, keepdims=True))
    with np.errstate(divide="ignore", invalid="ignore"):
        drift = np.where(counted > 0, np.abs(products - squares) / counted, 0.0)
    return np.where(np.isnan(products), np.inf, drift)


def _proof_embeds(weight, prompts: DecoderPrompts | None) -> list[np.ndarray]:
    """Embeddings ``[1, T, D]`` of a few prompts, one with a picture's features where there are some."""
    if prompts is None:
        return [_prompt_embeds(weight)]
    with_pictures = [prompt for prompt in prompts.judged if prompt.features is not None][:1]
    of_text = [prompt for prompt in prompts.judged if prompt.features is None]
    chosen = [*with_pictures, *of_text][:_PROOF_PROMPTS]
    return [prompt.embeds(weight)[None, : _PROOF_TOKENS if prompt.features is None else None] for prompt in chosen]


def _prove_graph(
    language_model,
    graph: Path,
    precision: DecoderPrecision,
    prompts: list[np.ndarray],
    token_ids: np.ndarray | None,
) -> dict:
    from .rounded import rounded_weights

    quantised = precision.bits is not None
    parts = {"whole": [], "cached": []}
    with float_activations(graph) if quantised else nullcontext(graph) as path:
        session = decoder_session(path)
        for embeds in prompts:
            with rounded_weights(language_model, graph, precision) if quantised else nullcontext():
                expected = among(given_logits(language_model, embeds[0], np.arange(embeds.shape[1])), token_ids)
            _require_finite(language_model, expected)
            for name, run in zip(parts, (_whole, _cached)):
                logits = run(session, embeds)
                require_left_out(logits, token_ids)
                actual = among(logits, token_ids)
                values = _compare(expected, actual)
                _gate(name, values, expected, actual, LOGITS_TOLERANCES[precision.name])
                parts[name].append(values)
    return {
        "prompt_tokens": sum(embeds.shape[1] for embeds in prompts),
        "cached_steps": _CACHED_STEPS,
        "activations": "float32" if quantised else precision.dtype,
        **{name: _worst_of(values) for name, values in parts.items()},
    }


def _require_finite(language_model, logits: np.ndarray) -> None:
    if not np.isfinite(logits).all():
        raise ExportError(
            "the language model gives inf or NaN in PyTorch",
            given=f"model_type {language_model.config.model_type}",
            todo="check the checkpoint",
        )


def _whole(session, embeds: np.ndarray) -> np.ndarray:
    """Logits ``[T, V]`` in one pass."""
    return run_decoder(session, embeds, None)[0]


def _cached(session, embeds: np.ndarray) -> np.ndarray:
    """Logits ``[T, V]``, those of the last positions one by one through the cache."""
    length = embeds.shape[1]
    logits, cache = run_decoder(session, embeds[:, :-_CACHED_STEPS], None)
    steps = [logits]
    for position in range(length - _CACHED_STEPS, length):
        logits, cache = run_decoder(session, embeds[:, position : position + 1], cache)
        steps.append(logits)
    return np.concatenate(steps)


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


def _compare(expected: np.ndarray, actual: np.ndarray) -> dict:
    """Two sets of logits ``[T, V]``: the worst position's cosine and norm ratio, and the largest error."""
    positions = [_compare_position(*pair) for pair in zip(expected, actual)]
    cosines, ratios, errors = (np.array(values) for values in zip(*positions))
    return {
        "cosine": float(cosines.min()),
        "norm_ratio": float(ratios[np.abs(ratios - 1).argmax()]),
        "max_abs": float(errors.max()),
        "same_best_token": float((expected.argmax(1) == actual.argmax(1)).mean()),
    }


def _compare_position(expected: np.ndarray, actual: np.ndarray) -> tuple[float, float, float]:
    """Of logits ``[V]``, in float64, which all positions at once would take twice the memory of: cosine, norm ratio and
    largest error."""
    expected, actual = expected.astype(np.float64), actual.astype(np.float64)
    norm, norm_actual = (np.linalg.norm(logits[None], axis=1)[0] for logits in (expected, actual))
    cosine = (expected * actual).sum() / max(norm * norm_actual, 1e-30)
    return cosine, norm_actual / max(norm, 1e-30), np.abs(expected - actual).max()


def _worst_of(parts: list[dict]) -> dict:
    """Over several prompts, the worst of each number."""
    return {
        "cosine": min(part["cosine"] for part in parts),
        "norm_ratio": max((part["norm_ratio"] for part in parts), key=lambda ratio: abs(ratio - 1)),
        "max_abs": max(part["max_abs"] for part in parts),
        "same_best_token": min(part["same_best_token"] for part in parts),
    }


def _lead(logits: np.ndarray) -> np.float32:
    """By how much the best of ``[V]`` leads."""
    second, best = np.partition(logits, -2)[-2:]
    return best - second


def _gate(name: str, values: dict, expected: np.ndarray, actual: np.ndarray, tolerance: LogitsTolerance) -> None:
    decided = np.array([_lead(logits) > tolerance.margin * logits.std() for logits in expected])
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
