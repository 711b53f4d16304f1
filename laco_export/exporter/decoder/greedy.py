"""Greedy tokens, step by step through a KV cache: of PyTorch's language model and of the exported one."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import numpy as np

from ...decoder_steps import run_decoder

Step = Callable[[np.ndarray, object], tuple[np.ndarray, object]]
"""Embeddings ``[T, D]`` and the cache of what was before, or None, to the last position's logits ``[1, V]`` and the
cache."""


def pytorch_step(language_model) -> Step:
    """Steps of a transformers causal language model."""
    import torch

    from ...models.transformers_versions import CACHE

    dtype = language_model.get_input_embeddings().weight.dtype

    def step(rows: np.ndarray, cache):
        with torch.inference_mode():
            inputs = torch.from_numpy(rows[None]).to(dtype)
            outputs = language_model(inputs_embeds=inputs, **{CACHE: cache}, use_cache=True, logits_to_keep=1)
            return outputs.logits[0].float().numpy(), outputs[CACHE]

    return step


def exported_step(session) -> Step:
    """Steps of an exported decoder's session."""
    return lambda rows, cache: run_decoder(session, rows[None], cache, np.array([len(rows) - 1]))


@dataclass(frozen=True)
class GreedyAnswer:
    """Tokens and what they were chosen by: ``ids``, the end token included where it comes, and float32 ``[A, V]``."""

    ids: list[int]
    logits: np.ndarray


def greedy_answer(
    step: Step,
    embeds: np.ndarray,
    weight,
    end_tokens: Collection[int],
    most: int,
    token_ids: np.ndarray | None = None,
) -> GreedyAnswer:
    """The best token of each step.

    Args:
        embeds: the prompt's, float32 ``[T, D]``.
        weight: the embedding, torch ``[V, D]``.
        most: tokens, at most.
        token_ids: int64 ``[K]``: tokens to choose from; None for all. The logits are of all.
    """
    rows, cache, ids, logits = embeds, None, [], []
    while len(ids) < most:
        last, cache = step(rows, cache)
        logits.append(last[-1])
        ids.append(best_token(last[-1], token_ids))
        if ids[-1] in end_tokens:
            break
        rows = weight.detach()[ids[-1:]].float().numpy()
    return GreedyAnswer(ids, np.stack(logits))


def best_token(logits: np.ndarray, token_ids: np.ndarray | None = None) -> int:
    """Of logits ``[V]`` the best, of the tokens ``token_ids [K]`` where they are given."""
    return int(logits.argmax() if token_ids is None else token_ids[logits[token_ids].argmax()])
