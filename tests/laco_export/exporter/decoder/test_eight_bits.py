"""The layers that keep eight bits are those whose rounding costs, within their share of the weights."""

from dataclasses import replace

import pytest
import torch

from laco_export.exporter.decoder import DECODER_PRECISIONS, verify_decoder
from laco_export.exporter.decoder.eight_bits import choose_eight_bits, expected_costs, rounding_error
from laco_export.exporter.decoder.rounding_cost import divergence, given_logits, log_softmax

INT4 = DECODER_PRECISIONS["int4"]


def measured_cost(model, name, prompt) -> float:
    """The KL of rounding one layer alone."""
    embeds, weight = prompt.embeds(model.get_input_embeddings().weight), model.get_submodule(name).weight
    wanted = torch.arange(len(embeds)).numpy()
    before, expected = weight.data, log_softmax(given_logits(model, embeds, wanted))
    weight.data = before + rounding_error(before, INT4)
    actual = log_softmax(given_logits(model, embeds, wanted))
    weight.data = before
    return float(divergence(expected, actual).mean())


def test_what_is_expected_is_near_what_is_measured(make_language_model, text_prompts):
    model, prompt = make_language_model(initializer_range=0.05), text_prompts.rounding[0]
    costs = expected_costs(model, INT4, prompt)
    measured = {name: measured_cost(model, name, prompt) for name in costs}
    assert len(costs) == 2 * 7
    assert sum(costs.values()) == pytest.approx(sum(measured.values()), rel=0.5)
    order = sorted(costs, key=costs.get)
    assert sum(measured[name] for name in order[-5:]) > 3 * sum(measured[name] for name in order[:5])
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_the_dearest_by_the_byte_come_first_and_the_share_holds(make_language_model, text_prompts):
    model, prompt = make_language_model(), text_prompts.rounding[0]
    costs = expected_costs(model, INT4, prompt)
    sizes = {name: model.get_submodule(name).weight.numel() for name in costs}
    chosen = choose_eight_bits(model, replace(INT4, eight_bit_share=0.3), prompt)
    assert 0 < sum(sizes[name] for name in chosen) <= 0.3 * sum(sizes.values())
    worth = sorted((costs[name] / sizes[name] for name in costs), reverse=True)
    assert sorted((chosen[name] / sizes[name] for name in chosen), reverse=True) == worth[: len(chosen)]


@pytest.mark.parametrize("biased", ["qwen2 tied", "llama"])
@pytest.mark.parametrize("kind", ["q", "k", "v"])
def test_a_stacked_layer_may_hold_both_widths(make_language_model, text_prompts, tmp_path, monkeypatch, biased, kind):
    from laco_export.exporter.decoder import eight_bits, export_decoder

    model, name = make_language_model(biased), f"model.layers.1.self_attn.{kind}_proj"
    monkeypatch.setattr(eight_bits, "choose_eight_bits", lambda *_: {name: 0.5})
    decoder = export_decoder(
        model, image_token_id=9, eos_token_ids=[5], output_folder=tmp_path, precision="int4", prompts=text_prompts
    )
    assert {"weights": name, "precision": "int8", "reason": "alone, 4 bits would cost a KL of about 0.5"} in (
        decoder.quantization["kept_wide"]
    )
    assert verify_decoder(model, tmp_path, decoder, text_prompts, max_kl=None)["cached"]["cosine"] > 0.99999
