"""What rounding costs is measured at real positions, told, and refused beyond the limit with the layers' names."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from laco_export.errors import ExportError
from laco_export.exporter.decoder import DECODER_PRECISIONS, proof, verify_decoder
from laco_export.exporter.decoder.rounded import rounded_weights
from laco_export.exporter.decoder.rounding_cost import (
    RoundingCost,
    _by_position,
    _of_tokens,
    cost_of_layers,
    divergence,
    given_logits,
    log_softmax,
)


def test_the_numbers_by_position():
    expected = np.log(np.array([[0.7, 0.2, 0.1], [0.4, 0.35, 0.25]], np.float32))
    actual = np.log(np.array([[0.6, 0.3, 0.1], [0.3, 0.45, 0.25]], np.float32))
    kl, decided, same, nll, nll_exported = _by_position(expected, actual, np.array([0, 2]))
    assert kl[0] == pytest.approx(0.7 * np.log(0.7 / 0.6) + 0.2 * np.log(0.2 / 0.3), abs=1e-6)
    assert decided.tolist() == [True, False]  # 0.7 is more than twice 0.2, 0.4 is not twice 0.35
    assert same.tolist() == [True, False]
    assert nll == pytest.approx(-np.log([0.7, 0.25]), abs=1e-6)
    assert nll_exported == pytest.approx(-np.log([0.6, 0.25]), abs=1e-6)


def test_the_numbers_of_a_reduced_vocabulary_are_of_its_tokens_alone():
    """Tokens 0, 2 and 3 of four: the next token has no row at the first position, the best one at the second."""
    expected = np.log(np.array([[0.4, 0.3, 0.2, 0.1], [0.2, 0.5, 0.1, 0.2]], np.float32))
    actual = np.log(np.array([[0.5, 0.1, 0.3, 0.1], [0.5, 0.1, 0.2, 0.2]], np.float32))
    actual[:, 1] = -np.inf
    kept = np.array([0, 2, 3])
    kl, decided, same, nll, nll_exported, next_has_row, best_has_row = _of_tokens(
        expected, actual, np.array([1, 3]), kept
    )
    p, q = (np.exp(logits[:, kept]) / np.exp(logits[:, kept]).sum(-1, keepdims=True) for logits in (expected, actual))
    assert kl == pytest.approx((p * np.log(p / q)).sum(-1), abs=1e-6)
    assert decided.tolist() == [True, False]  # 0.4 is twice 0.2
    assert same.tolist() == [True, True]
    assert (next_has_row.tolist(), best_has_row.tolist()) == ([False, True], [True, False])
    assert (nll[1], nll_exported[1]) == pytest.approx((-np.log(p[1, 2]), -np.log(q[1, 2])), abs=1e-6)


def test_log_softmax_sums_to_one():
    rows = log_softmax(np.array([[1000.0, 0.0], [-3.0, 5.0]]))
    assert np.exp(rows).sum(-1) == pytest.approx([1, 1])


def test_a_cost_beyond_the_limit_names_layers(make_language_model, export, text_prompts, tmp_path):
    """Of two layers the first one's weights lie on a grid of 16 numbers already: the second is named first."""
    model = make_language_model()
    for module in model.model.layers[0].modules():
        if isinstance(module, torch.nn.Linear):
            module.weight.data.div_(0.1).round_().clamp_(-7, 8).mul_(0.1)
            module.weight.data[:, :2] = torch.tensor([-0.7, 0.8])  # the whole range: a row is a block here
    decoder = export(model, tmp_path, "int4")
    with pytest.raises(ExportError, match="int4 changes what it says") as caught:
        verify_decoder(model, tmp_path, decoder, text_prompts, max_kl=1e-4)
    assert "alone, model.layers.1 costs" in str(caught.value.given)
    assert "0.0001 nats" in str(caught.value.allowed)
    assert "--max-kl" in caught.value.todo and "int8" in caught.value.todo


def test_a_layers_cost_is_that_of_a_whole_pass_with_it_rounded(make_language_model, export, text_prompts, tmp_path):
    model, precision = make_language_model("qwen2 untied", num_hidden_layers=3), DECODER_PRECISIONS["int4"]
    graph = tmp_path / export(model, tmp_path, "int4").graph
    table, prompts = model.get_input_embeddings().weight, text_prompts.judged[:2]

    def logits():
        return [
            log_softmax(given_logits(model, prompt.embeds(table), np.flatnonzero(prompt.counted))) for prompt in prompts
        ]

    costs, given = cost_of_layers(model, graph, precision, prompts), logits()
    assert list(costs) == ["model.layers.0", "model.layers.1", "model.layers.2", "lm_head"]
    for name, cost in costs.items():
        with rounded_weights(model, graph, precision, within=name):
            moved = np.concatenate([divergence(*pair) for pair in zip(given, logits())])
        assert cost == pytest.approx(float(moved.mean()), rel=1e-5), name  # the same products, in the same order
        assert cost > 1e-5, name  # of the head, which keeps eight bits; the layers cost more
    assert all(np.array_equal(*pair) for pair in zip(given, logits())), "the model is as it was"


def test_the_limit_moves_and_the_cost_is_told(make_language_model, export, text_prompts, tmp_path):
    model = make_language_model()
    report = verify_decoder(model, tmp_path, export(model, tmp_path, "int4"), text_prompts, max_kl=50)
    assert report["max_kl"] == 50
    assert set(report["cost"]) == set(RoundingCost.__dataclass_fields__) - {"vocabulary"}  # which is whole
    assert report["cost"]["positions"] == sum(prompt.counted.sum() for prompt in text_prompts.judged)
    assert [answer["question"] for answer in report["cost"]["greedy"]] == ["Which?"]


@pytest.mark.parametrize(("room", "tokens"), [(3, 3), (1, 1), (0, None)])
def test_answers_end_where_the_context_ends(make_language_model, export, text_prompts, tmp_path, room, tokens):
    """A question of eight tokens in a context with room for few more: the last token of an answer is not read."""
    model = make_language_model(max_position_embeddings=7 + room, eos_token_id=None)
    prompts = replace(text_prompts, judged=tuple(prompt.within(7 + room) for prompt in text_prompts.judged))
    decoder = replace(export(model, tmp_path, "int8"), eos_token_ids=[])
    answers = verify_decoder(model, tmp_path, decoder, prompts, max_kl=50)["cost"]["greedy"]
    assert [len(answer["exported"].split()) for answer in answers] == ([tokens] if tokens else [])


def test_a_cost_that_is_no_number_is_refused(make_language_model, export, text_prompts, tmp_path):
    from laco_export.exporter.decoder.rounding_cost import require_cheap

    model = make_language_model()
    decoder = export(model, tmp_path, "int8")
    cost = RoundingCost("text", 1, float("nan"), 0.0, 1.0, 1.0, 1.0, 1.0, 1.0)
    with pytest.raises(ExportError, match="int8 changes what it says"):
        require_cheap(cost, model, tmp_path / decoder.graph, DECODER_PRECISIONS["int8"], text_prompts, 1.0)
    assert asdict(cost)["texts"] == "text"


@pytest.mark.real
def test_int4_without_zero_points_is_refused_on_a_real_model(smollm2, export, tmp_path, monkeypatch):
    """INT4 as it was: its graph is right, and it says that the capital of France is France."""
    model, prompts = smollm2
    before = replace(DECODER_PRECISIONS["int4"], zero_points=False, eight_bit_share=0.0)
    monkeypatch.setitem(DECODER_PRECISIONS, "int4", before)
    costs = []
    judge = proof.require_cheap
    monkeypatch.setattr(proof, "require_cheap", lambda cost, *others: costs.append(cost) or judge(cost, *others))
    decoder = export(model, tmp_path, "int4")
    with pytest.raises(ExportError, match="int4 changes what it says") as caught:
        verify_decoder(model, tmp_path, decoder, prompts)
    assert "alone, model.layers.11 costs" in str(caught.value.given)
    assert "--llm int8" in caught.value.todo
    assert costs[0].kl_mean > 0.3
    assert costs[0].perplexity_ratio > 1.2
