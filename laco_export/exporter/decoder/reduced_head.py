"""A head over some of the vocabulary's tokens: its rows, and its logits put where the whole head's would stand.

The product has a row a token that is kept, and the graph itself writes them into a row of the whole vocabulary that is
``-inf`` elsewhere::

    logits.kept [B, N, K] -> ScatterElements into -inf [B, N, V] at lm_head.token_ids [K] -> logits [B, N, V]

So nothing that reads logits maps ids: penalties, sampling, stop strings, scores and prompt lookup see a token that can
not be said as one of probability 0. What it costs a step is in ``docs/decoder.md``. Another form, a ``Gather`` of the
kept logits and one ``-inf`` by a table of V places, takes four times as long on ONNX Runtime's CPU provider.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ...errors import ExportError
from .skeleton import HEAD

TOKEN_IDS = f"{HEAD}.token_ids"
"""The initializer that names the head's rows: int32 ``[K]``, ascending."""


def scatter_logits(kept_logits: str, target: str, vocab_size: int) -> tuple[list[onnx.NodeProto], onnx.TensorProto]:
    """The nodes that put logits ``[B, N, K]`` in their places of ``[B, N, V]``, and their small initializer.

    Args:
        kept_logits: float32; target: the output's name.
        vocab_size: V.
    """
    named = {key: f"{target}.{key}" for key in ("positions", "width", "shape", "nothing", "kept_shape", "places")}
    nothing = numpy_helper.from_array(np.array([-np.inf], np.float32))
    nodes = [
        helper.make_node("Shape", [kept_logits], [named["positions"]], start=0, end=2),
        helper.make_node("Concat", [named["positions"], named["width"]], [named["shape"]], axis=0),
        helper.make_node("ConstantOfShape", [named["shape"]], [named["nothing"]], value=nothing),
        helper.make_node("Shape", [kept_logits], [named["kept_shape"]]),
        helper.make_node("Expand", [TOKEN_IDS, named["kept_shape"]], [named["places"]]),
        helper.make_node("ScatterElements", [named["nothing"], named["places"], kept_logits], [target], axis=2),
    ]
    for node in nodes:
        node.name = node.output[0]
    return nodes, numpy_helper.from_array(np.array([vocab_size], np.int64), named["width"])


def stored_token_ids(tensors: dict[str, np.ndarray]) -> np.ndarray | None:
    """int64 ``[K]`` of a decoder's stored tensors by name; None where its head is over the whole vocabulary."""
    return np.asarray(tensors[TOKEN_IDS], np.int64) if TOKEN_IDS in tensors else None


def among(logits: np.ndarray, token_ids: np.ndarray | None) -> np.ndarray:
    """Of logits ``[N, V]`` those of the tokens that have a row, ``[N, K]``; all of them where that is None."""
    return logits if token_ids is None else logits[:, token_ids]


def require_left_out(logits: np.ndarray, token_ids: np.ndarray | None) -> None:
    """Of logits ``[T, V]`` those of tokens without a row are -inf, so that none of them is ever chosen.

    Raises:
        ExportError: one has a logit.
    """
    if token_ids is None:
        return
    others = np.delete(np.arange(logits.shape[1]), token_ids)
    if not np.isneginf(logits[:, others]).all():
        raise ExportError(
            "the exported language model gives logits to tokens that its reduced vocabulary leaves out",
            given=f"token {int(others[~np.isneginf(logits[:, others]).all(0)][0])}",
            todo="report this with the language model's config.json",
        )
