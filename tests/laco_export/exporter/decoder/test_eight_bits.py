"""The layers that keep eight bits are those whose rounding costs, within their share of the weights."""

from dataclasses import replace

import pytest
import torch

from laco_export.exporter.decoder import DECODER_PRECISIONS, verify_decoder
from laco_export.exporter.decoder.eight_bits import choose_eight_bits, expected_costs, rounding_error
from laco_export.exporter.decoder.rounded import stored_matrices
from laco_export.exporter.decoder.rounding_cost import divergence, given_logits, log_softmax
from laco_export.exporter.decoder.skeleton import products

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
    worth = {
        names: sum(costs[name] for name in names) / sum(sizes[name] for name in names) for names in products(model)
    }
    taken = [names for names in worth if names[0] in chosen]
    assert set(chosen) == {name for names in taken for name in names}  # a product's layers together
    assert sorted((worth[names] for names in taken), reverse=True) == sorted(worth.values(), reverse=True)[: len(taken)]


@pytest.mark.parametrize(("family", "together"), [("qwen2 tied", True), ("llama", True), ("qwen3", False)])
def test_what_one_product_computes_has_one_width(make_language_model, family, together):
    attention = "model.layers.1.self_attn"
    stacked = tuple(f"{attention}.{kind}_proj" for kind in "qkv")
    found = products(make_language_model(family))
    assert (stacked in found) is together
    assert sum(len(names) for names in found) == 2 * 7
    assert max(len(names) for names in found) == (3 if together else 1)


def test_eight_bit_layers_are_written_and_read_as_such(make_language_model, text_prompts, tmp_path, monkeypatch):
    from laco_export.exporter.decoder import eight_bits, export_decoder

    model = make_language_model("qwen2 tied")  # whose q, k and v have biases
    wide = {f"model.layers.1.self_attn.{kind}_proj": 0.5 for kind in "qkv"} | {"model.layers.0.mlp.down_proj": 0.2}
    monkeypatch.setattr(eight_bits, "choose_eight_bits", lambda *_: wide)
    decoder = export_decoder(
        model, image_token_id=9, eos_token_ids=[5], output_folder=tmp_path, precision="int4", prompts=text_prompts
    )
    assert {
        "weights": "model.layers.0.mlp.down_proj",
        "precision": "int8",
        "reason": "alone, 4 bits would cost a KL of about 0.2",
    } in decoder.quantization["kept_wide"]
    stored = stored_matrices(model, tmp_path / decoder.graph, INT4)
    assert {name for name, matrix in stored.items() if matrix.bits == 8} == {*wide, "lm_head"}
    assert verify_decoder(model, tmp_path, decoder, text_prompts, max_kl=None)["cached"]["cosine"] > 0.99999
