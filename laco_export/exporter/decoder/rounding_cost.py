"""What rounding costs: the decoder as it is shipped against the language model as it was given, at real positions.

Whether the graph is right is another question (:mod:`.proof`). This one is answered in the model's own terms: how far
its distribution over the next token moved, whether its choice moved where it had one, and what it makes of the text.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from ...bundle import Decoder
from ...decoder_steps import run_decoder
from ...errors import ExportError
from .greedy import exported_step, greedy_answer, pytorch_step
from .precision import DecoderPrecision
from .prompts import DecoderPrompt, DecoderPrompts
from .reduced_head import among
from .rounded import rounded_weights

DECIDED = 2.0
"""The model is decided where its best token is at least so many times as likely as its second."""

_GREEDY_TOKENS = 16
_LAYER_PROMPTS = 2  # for naming the layers that cost most: a forward a layer
_NAMED_LAYERS = 3
_POSITIONS = 32  # compared at a time: of 151,936 tokens, whose logits are taken apart in several copies, 19 MB each
_SMALLEST = 1e-30


@dataclass(frozen=True)
class VocabularyUse:
    """What a reduced vocabulary leaves of the judged positions; shares in 0 … 1.

    Attributes:
        next_has_row: of the tokens that follow in the text and in the answers.
        best_has_row: of the given model's choices, by its whole head.
        same_where_row: of those, the share that the exported decoder chooses too.
    """

    next_has_row: float
    best_has_row: float
    same_where_row: float

    @classmethod
    def of(cls, next_has_row: np.ndarray, best_has_row: np.ndarray, same: np.ndarray) -> VocabularyUse:
        """Of what holds at each position, bool ``[N]``."""
        share = float(same[best_has_row].mean()) if best_has_row.any() else 1.0
        return cls(float(next_has_row.mean()), float(best_has_row.mean()), share)


@dataclass(frozen=True)
class RoundingCost:
    """Over the judged positions; KL in nats, of the exported decoder's distribution from the given model's.

    Attributes:
        decided: share of positions where the given model is decided (:data:`DECIDED`).
        same_best_token: share of all positions with the given model's best token.
        same_where_decided: of those where it is decided.
        perplexity: of the text and the answers, by the given model.
        perplexity_ratio: the exported decoder's over it.
        greedy: ``{"question", "given", "exported"}``: the first tokens of each answer, the given one by the whole head.
        vocabulary: of a reduced one (:class:`VocabularyUse`); the figures above are then of distributions over its
            tokens alone, and the perplexity of the text that it can write.
    """

    texts: str
    positions: int
    kl_mean: float
    kl_p99: float
    decided: float
    same_best_token: float
    same_where_decided: float
    perplexity: float
    perplexity_ratio: float
    greedy: tuple[dict, ...] = ()
    vocabulary: VocabularyUse | None = None

    def to_manifest(self) -> dict:
        """The fields; ``vocabulary`` where there is one."""
        fields = asdict(self)
        if self.vocabulary is None:
            del fields["vocabulary"]
        return fields

    def numbers(self) -> str:
        """In a line, for people."""
        return (
            f"KL {self.kl_mean:.4f} nats a token (99th percentile {self.kl_p99:.3f}), perplexity x "
            f"{self.perplexity_ratio:.3f}, best token kept at {self.same_where_decided:.1%} of decided positions"
        )


def measure_cost(
    language_model, session, decoder: Decoder, prompts: DecoderPrompts, token_ids: np.ndarray | None = None
) -> RoundingCost:
    """Compare a session of the shipped graph with the given model on all judged prompts.

    Args:
        token_ids: int64 ``[K]``, ascending: the tokens that the decoder's head has rows for; None for all.
    """
    table = language_model.get_input_embeddings().weight
    parts = []
    for prompt in prompts.judged:
        embeds = prompt.embeds(table)
        wanted = np.flatnonzero(prompt.counted)
        expected = given_logits(language_model, embeds, wanted)  # [N, V]
        actual = run_decoder(session, embeds[None], None, wanted)[0]
        for some in np.array_split(np.arange(len(wanted)), max(1, -(-len(wanted) // _POSITIONS))):
            following = prompt.ids[wanted[some] + 1]
            parts.append(_of_tokens(expected[some], actual[some], following, token_ids))
    kl, decided, same, nll, nll_exported, next_has_row, best_has_row = map(np.concatenate, zip(*parts))
    surprise, moved = nll[next_has_row], (nll_exported - nll)[next_has_row]
    return RoundingCost(
        texts=prompts.texts,
        positions=len(kl),
        kl_mean=float(kl.mean()),
        kl_p99=float(np.quantile(kl, 0.99)),
        decided=float(decided.mean()),
        same_best_token=float(same.mean()),
        same_where_decided=float(same[decided].mean()) if decided.any() else 1.0,
        perplexity=_perplexity(surprise),
        perplexity_ratio=_perplexity(moved),
        vocabulary=None if token_ids is None else VocabularyUse.of(next_has_row, best_has_row, same),
        greedy=tuple(
            _greedy_answers(language_model, session, decoder, question, prompt, prompts.decode)
            for question, prompt in prompts.greedy
            if len(prompt.ids) <= decoder.context_length
        ),
    )


def require_cheap(
    cost: RoundingCost,
    language_model,
    graph: Path,
    precision: DecoderPrecision,
    prompts: DecoderPrompts,
    max_kl: float,
    token_ids: np.ndarray | None = None,
) -> None:
    """Refuse a rounding that costs more than ``max_kl``, naming the layers that cost most.

    Raises:
        ExportError: it does.
    """
    if cost.kl_mean <= max_kl:  # so that NaN is refused too
        return
    costs = cost_of_layers(language_model, graph, precision, prompts.judged[:_LAYER_PROMPTS], token_ids)
    dearest = sorted(costs.items(), key=lambda entry: -entry[1])[:_NAMED_LAYERS]
    wider = "--llm fp16 or fp32" if precision.bits == 8 else "--llm int8"
    raise ExportError(
        f"rounding the language model to {precision.name} changes what it says",
        given=f"{cost.numbers()}; alone, {', '.join(f'{name} costs {kl:.3f}' for name, kl in dearest)}",
        allowed=f"a mean KL of at most {max_kl:g} nats a token",
        todo=f"take {wider}; or round over texts like those it will see (--llm-texts FILE …); or, where answers are "
        "good enough, move the limit with --max-kl",
    )


def cost_of_layers(
    language_model,
    graph: Path,
    precision: DecoderPrecision,
    prompts: Sequence[DecoderPrompt],
    token_ids: np.ndarray | None = None,
) -> dict[str, float]:
    """The mean KL of rounding one layer alone, in PyTorch: ``model.layers.0`` … and the head, by name.

    What the layers before it give out is what they give out in the given model, whose one pass is kept: of L layers,
    (L + 1) / 2 are run in the mean, and of the head's round the head alone.

    Args:
        token_ids: of a reduced vocabulary, whose tokens' distribution is compared; None for all.
    """
    import torch

    table, layers = language_model.get_input_embeddings().weight, language_model.base_model.layers
    names = [name for name, _ in language_model.named_modules() if name.rpartition(".")[2].isdigit()]
    wanted = [torch.from_numpy(np.flatnonzero(prompt.counted)) for prompt in prompts]
    costs = {}
    with torch.inference_mode():
        passes = [_hidden_states(language_model, prompt.embeds(table)) for prompt in prompts]
        log_probabilities = lambda hidden, rows: log_softmax(
            among(_head_logits(language_model, hidden, rows), token_ids)
        )
        expected = [log_probabilities(hidden[-1], rows) for hidden, rows in zip(passes, wanted)]
        for place, name in enumerate((*names, "lm_head")):
            moved = []
            with (
                rounded_weights(language_model, graph, precision, within=name),
                _only(language_model.base_model, layers[place:]),
            ):
                for hidden, rows, before in zip(passes, wanted, expected):
                    last = hidden[place] if name == "lm_head" else _last_hidden(language_model, hidden[place])
                    moved.append(divergence(before, log_probabilities(last, rows)))
            costs[name] = float(np.concatenate(moved).mean())
    return costs


@contextmanager
def _only(base_model, layers) -> Iterator[None]:
    """Let the model consist of these of its layers while the block runs."""
    whole = base_model.layers
    base_model.layers = layers
    try:
        yield
    finally:
        base_model.layers = whole


def given_logits(language_model, embeds: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """PyTorch's logits ``[N, V]`` at some positions of a prompt ``[T, D]``."""
    import torch

    with torch.inference_mode():
        hidden = _last_hidden(language_model, _inputs(language_model, embeds))
        return _head_logits(language_model, hidden, torch.from_numpy(wanted))


def _inputs(language_model, embeds: np.ndarray):
    """``[1, T, D]`` in the model's dtype, of ``[T, D]``."""
    import torch

    return torch.from_numpy(embeds[None]).to(language_model.get_input_embeddings().weight.dtype)


def _last_hidden(language_model, inputs):
    """What the head reads, ``[1, T, D]``: of what the first of the model's layers reads."""
    return language_model.base_model(inputs_embeds=inputs, use_cache=False).last_hidden_state


def _hidden_states(language_model, embeds: np.ndarray) -> tuple:
    """What each layer reads and, last, what the head reads; ``[1, T, D]`` each, of a prompt ``[T, D]``."""
    inputs = _inputs(language_model, embeds)
    return language_model.base_model(inputs_embeds=inputs, use_cache=False, output_hidden_states=True).hidden_states


def _head_logits(language_model, hidden, wanted) -> np.ndarray:
    """float32 ``[N, V]`` of ``[1, T, D]`` at the positions ``wanted``."""
    return language_model.lm_head(hidden[0, wanted]).float().numpy()


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """float32 ``[N, V]``."""
    shifted = logits.astype(np.float32) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def divergence(expected: np.ndarray, actual: np.ndarray) -> np.ndarray:
    """KL by position ``[N]`` of two sets of log-probabilities ``[N, V]``."""
    return np.einsum("nv,nv->n", np.exp(expected), expected - actual)


def _perplexity(surprise: np.ndarray) -> float:
    """Of nats a token ``[N]``; 1 where there are none."""
    return math.exp(min(float(surprise.mean()), 700.0)) if len(surprise) else 1.0


def _of_tokens(
    expected: np.ndarray, actual: np.ndarray, following: np.ndarray, token_ids: np.ndarray | None
) -> tuple[np.ndarray, ...]:
    """Of logits ``[N, V]``: KL, decided, same best token, both surprises at the token that follows, and whether that
    token and the best one have a row; each ``[N]``."""
    best_has_row = _rows_of(expected.argmax(-1), token_ids)[1]
    following, next_has_row = _rows_of(following, token_ids)
    compared = _by_position(log_softmax(among(expected, token_ids)), log_softmax(among(actual, token_ids)), following)
    return (*compared, next_has_row, best_has_row)


def _rows_of(tokens: np.ndarray, token_ids: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """The head's rows of tokens ``[N]``, and whether they have one; any row where they have not."""
    if token_ids is None:
        return tokens, np.ones(len(tokens), bool)
    rows = np.searchsorted(token_ids, tokens).clip(max=len(token_ids) - 1)
    return rows, token_ids[rows] == tokens


def _by_position(expected: np.ndarray, actual: np.ndarray, following: np.ndarray) -> tuple[np.ndarray, ...]:
    """Of log-probabilities ``[N, V]``: KL, decided, same best token, and both surprises at the row that follows; each
    ``[N]``."""
    best_two = np.partition(expected, -2, axis=-1)[:, -2:]
    decided = best_two[:, 1] - best_two[:, 0] >= math.log(DECIDED)
    same = expected.argmax(-1) == actual.argmax(-1)
    rows = np.arange(len(following))
    return divergence(expected, actual), decided, same, -expected[rows, following], -actual[rows, following]


def _greedy_answers(language_model, session, decoder: Decoder, question: str, prompt: DecoderPrompt, decode) -> dict:
    weight, end_tokens = language_model.get_input_embeddings().weight, decoder.eos_token_ids
    embeds, texts = prompt.embeds(weight), {}
    most = min(_GREEDY_TOKENS, decoder.context_length + 1 - len(embeds))  # the last one is not read
    for name, step in (("given", pytorch_step(language_model)), ("exported", exported_step(session))):
        ids = greedy_answer(step, embeds, weight, end_tokens, most).ids
        texts[name] = decode(ids[:-1] if ids[-1] in end_tokens else ids)
    return {"question": question, **texts}
