"""The language model's parts beside PyTorch's: the embedding, a prefill, and steps through the KV cache. No torch.

The decoder reads PyTorch's own visual embeddings, which the golden file holds, so that it is judged alone whatever the
vision tower does here. How the parts work together is asked by :mod:`laco_engines.trial`.
"""

from __future__ import annotations

import numpy as np

from laco_export.bundle import Bundle
from laco_export.decoder_steps import run_decoder
from laco_export.embedding_table import EmbeddingTable
from laco_export.errors import BundleError, telling_line
from laco_export.golden import GoldenPictures
from laco_export.golden_answers import EmbeddingSample, GoldenAnswer, GoldenAnswers
from laco_export.onnx_session import open_session
from laco_export.token_layouts import pack_tokens
from laco_export.verified_files import BundleChangedError

from ..prompts.visuals import VisualPreparer
from ..providers import choose_provider
from .logits_check import DECODER_ERROR, LogitsCheck, check_logits
from .part_check import PartCheck

_ROW_ERROR = {("float32", None): 0.0, ("float16", None): 2.0**-10, ("uint8", 8): 0.1, ("uint8", 4): 0.5}
"""Of a row's sampled values, by stored dtype and bits. A half keeps 11 bits of a value. Eight bits miss it by up to
1/254 of its block's largest, four by 1/15, and a row may be sampled where it is small; another row is off by 1.4."""

_CACHED_STEPS = 2  # of each answer


def open_decoder_session(bundle: Bundle, *, threads: int | None = None):
    """An ONNX Runtime session of the decoder on the provider at hand, without Optimum.

    Raises:
        BundleError: ONNX Runtime cannot load it.
    """
    path, provider = bundle.file(bundle.manifest.decoder.graph), choose_provider()
    try:
        with bundle.unchanged(*bundle.decoder_files()):
            return open_session(path, providers=provider.session_providers(), threads=threads)
    except BundleChangedError:
        raise
    except Exception as error:  # onnxruntime raises many kinds
        raise BundleError(
            f"the language model '{path}' cannot be loaded: {telling_line(error)}",
            todo="update onnxruntime, or export the bundle again",
        ) from error


def check_decoder(bundle: Bundle, session, pictures: GoldenPictures, golden: GoldenAnswers) -> list[PartCheck]:
    """Compare the embedding and the decoder with PyTorch's.

    Args:
        session: an ONNX Runtime session of the decoder's graph.
    """
    with bundle.unchanged(*bundle.decoder_files()):
        table = EmbeddingTable(bundle.path, bundle.manifest.decoder.embedding)
    allowed, preparer = DECODER_ERROR[bundle.manifest.decoder.precision], VisualPreparer(bundle)
    checks = [check_embedding(table, golden.embedding)]
    for answer in golden.answers:
        embeds = _prompt_embeds(bundle, table, preparer, pictures, golden, answer)
        if embeds is None:
            continue
        prefill, cached = _both_passes(session, table, embeds, answer, allowed)
        shown = answer.question.pictures_in_words()
        checks.append(prefill.as_part(f"decoder's prefill, {shown}"))
        if cached is not None:
            checks.append(cached.as_part(f"decoder's steps through the KV cache, {shown}"))
    return checks


def check_embedding(table: EmbeddingTable, sample: EmbeddingSample) -> PartCheck:
    """Compare the embedding's rows with PyTorch's, where the file has samples of them."""
    allowed = _ROW_ERROR[table.storage.rows.dtype, table.storage.bits]
    actual = table.rows(sample.ids)[:, sample.columns]
    norms = np.maximum(np.linalg.norm(sample.rows, axis=1), np.finfo(np.float32).tiny)
    errors = np.linalg.norm(actual - sample.rows, axis=1) / norms
    errors = np.where(np.isfinite(errors), errors, np.inf)
    worst = int(errors.argmax())
    words = f"row {sample.ids[worst]} is off by {errors[worst]:.2%} (≤ {allowed:.2%}), the most of {len(errors)} rows"
    wrong = int((errors > allowed).sum())
    if wrong:
        words += f", {wrong} of them out of tolerance"
    numbers = {"error": float(errors[worst]) if np.isfinite(errors[worst]) else None, "allowed": allowed}
    return PartCheck("embedding", not wrong, words, numbers)


def _prompt_embeds(
    bundle: Bundle,
    table: EmbeddingTable,
    preparer: VisualPreparer,
    pictures: GoldenPictures,
    golden: GoldenAnswers,
    answer: GoldenAnswer,
) -> np.ndarray | None:
    """A question's prompt, float32 ``[T, D]``; None where it shows a picture in tiles, whose embeddings the file has
    not."""
    question = answer.question
    embeds = table.rows(answer.prompt_ids)
    if not question.pictures:
        return embeds
    shown = question.shown(pictures.pictures)
    layouts = [preparer.picture(picture, alone=len(shown) == 1).layout for picture in shown]
    if any(layout.tiles > 1 for layout in layouts):
        return None
    places = answer.prompt_ids == bundle.manifest.decoder.image_token_id
    if int(places.sum()) != sum(map(len, layouts)):
        raise BundleError(
            f"the golden answers of '{bundle.path}' are not of its golden pictures",
            given=f"{int(places.sum())} image tokens in the prompt of '{question.text}'",
            allowed=sum(map(len, layouts)),
            todo="copy the bundle again, or export it again",
        )
    features = pictures.image_features[list(question.pictures)]  # [p, tokens, D]
    embeds[places] = pack_tokens(features, layouts, golden.newline)  # [n, D]
    return embeds


def _both_passes(
    session, table: EmbeddingTable, embeds: np.ndarray, answer: GoldenAnswer, allowed: float
) -> tuple[LogitsCheck, LogitsCheck | None]:
    """The prompt in one pass, and the answer's first tokens through the cache; None for an answer of one token."""
    logits, cache = run_decoder(session, embeds[None], None, np.array([len(embeds) - 1]))
    prefill = check_logits(answer, *_sampled(answer, [logits], 0), allowed, steps=slice(0, 1))
    steps = []
    for token in answer.token_ids[:-1][:_CACHED_STEPS]:
        logits, cache = run_decoder(session, table.rows(np.array([token]))[None], cache)
        steps.append(logits)
    if not steps:
        return prefill, None
    return prefill, check_logits(answer, *_sampled(answer, steps, 1), allowed, steps=slice(1, 1 + len(steps)))


def _sampled(answer: GoldenAnswer, steps: list[np.ndarray], first: int) -> tuple[np.ndarray, list[int]]:
    """Of steps' logits ``[1, V]`` each, from step ``first`` on: those that the file has, and the best tokens."""
    rows = np.concatenate(steps).astype(np.float32)  # [S, V]
    ids = answer.logit_ids[first : first + len(rows)]
    return np.take_along_axis(rows, ids, 1), rows.argmax(1).tolist()
