"""LacoForConditionalGeneration computes and generates as users of transformers models expect."""

import pytest
import torch

from laco_export.errors import ConfigError, DepthError
from laco_export.models import CompressionConfig, LacoConfig, LacoForConditionalGeneration

IMAGE = 7


@pytest.mark.parametrize("images", [0, 1, 2])
def test_generate_with_and_without_cache(make_model, prompt, greedy, images):
    model, inputs = make_model(), prompt(images)
    assert torch.equal(greedy(model, inputs), greedy(model, inputs, use_cache=False))


def test_the_pictures_are_seen(make_model, prompt):
    model, inputs = make_model(), prompt(1)
    other = {**inputs, "pixel_values": torch.randn(1, 3, 56, 56) * 3}
    assert not torch.allclose(model(**inputs).logits, model(**other).logits)


def test_each_picture_stands_at_its_own_tokens(make_model, prompt):
    model, inputs = make_model(), prompt(2)
    swapped = {**inputs, "pixel_values": inputs["pixel_values"].flip(0)}
    features = model.get_image_features(inputs["pixel_values"])
    embeds = model.get_input_embeddings()(inputs["input_ids"])
    for index in range(2):
        embeds[0, 2 + 5 * index : 6 + 5 * index] = features[index]
    logits = model(**inputs).logits
    by_hand = model(inputs_embeds=embeds, attention_mask=inputs["attention_mask"]).logits
    torch.testing.assert_close(logits, by_hand, rtol=0, atol=1e-6)
    assert not torch.allclose(logits, model(**swapped).logits)


def test_left_padding_and_batching_change_nothing(make_model, prompt, greedy):
    model, alone = make_model(), [prompt(1, 12, 0), prompt(1, 17, 1)]
    length = alone[1]["input_ids"].shape[1]
    ids, mask = torch.zeros(2, length, dtype=torch.long), torch.zeros(2, length, dtype=torch.long)
    for row, inputs in enumerate(alone):
        size = inputs["input_ids"].shape[1]
        ids[row, length - size :], mask[row, length - size :] = inputs["input_ids"][0], 1
    pixels = torch.cat([inputs["pixel_values"] for inputs in alone])
    batch = greedy(model, {"input_ids": ids, "attention_mask": mask, "pixel_values": pixels})
    for row, inputs in enumerate(alone):
        expected = greedy(model, inputs)[0, inputs["input_ids"].shape[1] :]
        actual = batch[row, length:][: len(expected)]
        assert torch.equal(actual, expected)


@pytest.mark.parametrize("options", [{"num_beams": 3}, {"do_sample": True, "top_k": 5, "temperature": 0.7}])
def test_beams_and_sampling(make_model, prompt, options):
    model, inputs = make_model(), prompt(2)
    results = []
    for use_cache in (True, False):
        torch.manual_seed(5)
        with torch.no_grad():
            results.append(model.generate(**inputs, max_new_tokens=6, use_cache=use_cache, **options))
    assert results[0].shape[1] > inputs["input_ids"].shape[1]
    assert torch.equal(*results)


@pytest.mark.parametrize("encoder", ["aimv2", "siglip", "internvit", "clip"])
def test_eager_and_sdpa_agree(make_encoder, make_model, prompt, encoder):
    model, inputs = make_model(make_encoder(encoder)), prompt(1)
    logits = []
    for implementation in ("eager", "sdpa"):
        model.set_attn_implementation(implementation)
        assert model.vision_model.encoder.config._attn_implementation == implementation
        assert model.language_model.config._attn_implementation == implementation
        logits.append(model(**inputs).logits)
    torch.testing.assert_close(*logits, rtol=0, atol=1e-5)


def test_resizing_the_embeddings_keeps_them_tied(make_model, prompt):
    model = make_model()
    model.resize_token_embeddings(120)
    assert model.get_input_embeddings().weight.shape[0] == 120
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert model(**prompt(1)).logits.shape[-1] == 120
    assert model.config.text_config.vocab_size == 120


def test_gradient_checkpointing_gives_the_same_gradients(make_model, prompt):
    inputs = prompt(1)
    gradients = []
    for checkpointing in (False, True):
        model = make_model().train()
        if checkpointing:
            model.gradient_checkpointing_enable()
            assert model.vision_model.encoder.encoder.layers[0].gradient_checkpointing
        model(**inputs, labels=inputs["input_ids"]).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


def test_elastic_depth(make_encoder, make_model):
    encoder = make_encoder()
    config = make_model(encoder).config
    compression = CompressionConfig(depths=("1/4", "1/2"))
    config = LacoConfig(config.vision_config, config.text_config, compression, image_token_id=IMAGE)
    model = LacoForConditionalGeneration(config).eval()
    pixels = torch.randn(1, 3, 56, 56)
    assert model.set_depth("1/4").blocks == (1,)
    shallow = model.get_image_features(pixels)
    assert model.set_depth("block:2").blocks == (2,)
    assert not torch.allclose(shallow, model.get_image_features(pixels))
    with pytest.raises(DepthError, match=r"1/3(.|\n)*1/4 \(block:1\), 1/2 \(block:2\)"):
        model.set_depth("1/3")


def left_padded(prompts):
    """Prompts of different lengths as one batch: ``input_ids`` and ``attention_mask`` padded in front."""
    length = max(inputs["input_ids"].shape[1] for inputs in prompts)
    batch = {"input_ids": torch.zeros(len(prompts), length, dtype=torch.long)}
    batch["attention_mask"] = torch.zeros_like(batch["input_ids"])
    for row, inputs in enumerate(prompts):
        size = inputs["input_ids"].shape[1]
        batch["input_ids"][row, length - size :] = inputs["input_ids"][0]
        batch["attention_mask"][row, length - size :] = 1
    return batch | {"pixel_values": torch.cat([inputs["pixel_values"] for inputs in prompts])}


def sensitive(model):
    """Weights so large that another picture, or one in another place, changes what is generated."""
    torch.manual_seed(3)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            torch.nn.init.normal_(parameter, std=0.25)
    return model


@pytest.mark.parametrize("options", [{"num_beams": 3}, {"do_sample": True, "num_return_sequences": 3}])
def test_beams_and_samples_see_their_own_prompts_pictures(make_model, prompt, options):
    """Prompts with two and with one picture, against the language model alone on embeddings placed by hand."""
    model = sensitive(make_model())
    batch = left_padded([prompt(2, 12, 0), prompt(1, 17, 1)])
    options = {"max_new_tokens": 6, "eos_token_id": None, "do_sample": False, **options}
    with torch.no_grad():
        embeds = model.get_input_embeddings()(batch["input_ids"])
        features = model.get_image_features(batch["pixel_values"])
        embeds[batch["input_ids"] == IMAGE] = features.flatten(0, 1)
        torch.manual_seed(5)
        expected = model.language_model.generate(
            inputs_embeds=embeds, attention_mask=batch["attention_mask"], **options
        )
        torch.manual_seed(5)
        actual = model.generate(**batch, **options)
    assert torch.equal(actual[:, batch["input_ids"].shape[1] :], expected)


def test_a_picture_does_not_reach_into_the_next_prompt(make_model, prompt, greedy):
    """Three and five image tokens: the total is right, and a picture's last embedding would land in another prompt."""
    batch = left_padded([prompt(1, 12, 0), prompt(1, 12, 1)])
    batch["input_ids"][0, 5], batch["input_ids"][1, 6] = 11, IMAGE
    model = make_model()
    for call in (model, lambda **inputs: greedy(model, {**inputs, "num_beams": 2})):
        with pytest.raises(ConfigError, match=r"8 image tokens for 2 pictures, by prompt: 3, 5(.|\n)*8 tokens: 4, 4"):
            call(**batch)


def test_a_cache_is_continued(make_model, prompt, greedy):
    """A second turn on the first one's cache is what the whole conversation gives; new pictures are refused there."""
    model, inputs = sensitive(make_model()), prompt(1)
    turn = greedy(model, inputs, return_dict_in_generate=True, eos_token_id=None)
    ids = torch.cat([turn.sequences, torch.tensor([[11, 12, 13]])], dim=1)
    whole = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": inputs["pixel_values"]}
    expected = greedy(model, whole)
    assert torch.equal(greedy(model, whole, past_key_values=turn.past_key_values), expected)
    turn = greedy(model, inputs, return_dict_in_generate=True, eos_token_id=None)
    whole["input_ids"] = torch.cat([turn.sequences, torch.tensor([[11, IMAGE, IMAGE]])], dim=1)
    with pytest.raises(ConfigError, match="cannot be continued with new pictures"):
        greedy(model, whole, past_key_values=turn.past_key_values)


def test_generate_computes_the_last_logits_alone(make_model, prompt, greedy):
    """At full size the logits of a tiled picture's prompt would take gigabytes."""
    model, shapes = make_model(), []
    head = model.get_output_embeddings()
    head.register_forward_hook(lambda module, args, output: shapes.append(output.shape[1]))
    greedy(model, prompt(1))
    assert set(shapes) == {1}


def test_left_padding_with_absolute_positions(make_model, prompt, greedy):
    """GPT-2 adds position embeddings, so a row's positions must not count its padding."""
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(2)
    config = GPT2Config(n_embd=32, n_layer=2, n_head=4, vocab_size=100, n_positions=64, bos_token_id=0, eos_token_id=2)
    llm = GPT2LMHeadModel(config).eval()
    model = make_model()
    model = LacoForConditionalGeneration.from_parts(model.vision_model.encoder, llm, image_token_id=IMAGE).eval()
    prompts = [prompt(1, 12, 0), prompt(1, 25, 1)]
    batch = greedy(sensitive(model), left_padded(prompts), pad_token_id=0, eos_token_id=None)
    for row, inputs in enumerate(prompts):
        assert torch.equal(batch[row, -8:], greedy(model, inputs, pad_token_id=0, eos_token_id=None)[0, -8:])


def test_generate_from_embeddings(make_model, prompt, greedy):
    model, inputs = make_model(), prompt(0)
    embeds = model.get_input_embeddings()(inputs["input_ids"])
    expected = greedy(model, inputs)[:, inputs["input_ids"].shape[1] :]
    assert torch.equal(greedy(model, {"inputs_embeds": embeds}), expected)


def test_embeddings_from_another_device_are_placed(make_model, monkeypatch):
    """With a device map the projector may stand on another device than the token embeddings (these need not exist)."""
    from torch._subclasses import FakeTensorMode

    model = make_model()
    monkeypatch.setattr(model, "_pictures_of_prompts", lambda *_: None)  # it reads values, which fake tensors lack
    with FakeTensorMode():
        ids, embeds = torch.zeros(1, 16, dtype=torch.long, device="cuda:2"), torch.zeros(1, 16, 32, device="cuda:0")
        placed = model._place_images(ids, embeds, [torch.zeros(4, 32, device="cuda:1")])
    assert str(placed.device) == "cuda:0"


def test_wrong_number_of_image_tokens(make_model, prompt):
    inputs = prompt(1)
    inputs["input_ids"][0, 2] = 11
    with pytest.raises(ConfigError, match=r"3 image tokens for 1 pictures(.|\n)*4 tokens: 4"):
        make_model()(**inputs)


def test_image_tokens_without_pictures(make_model, prompt):
    inputs = prompt(1)
    del inputs["pixel_values"]
    with pytest.raises(ConfigError, match="4 image tokens for 0 pictures"):
        make_model()(**inputs)


def test_a_picture_too_many(make_model, prompt):
    inputs = prompt(1)
    inputs["pixel_values"] = inputs["pixel_values"].repeat(2, 1, 1, 1)
    with pytest.raises(ConfigError, match=r"4 image tokens for 2 pictures(.|\n)*8 tokens: 4, 4"):
        make_model()(**inputs)


@pytest.mark.parametrize("encoder", ["aimv2", "siglip", "internvit", "clip"])
def test_pixels_of_another_size_are_refused(make_encoder, make_model, encoder):
    model = make_model(make_encoder(encoder), method=None)
    for shape in ((1, 3, 70, 70), (1, 1, 56, 56), (1, 1, 3, 56, 56)):
        with pytest.raises(ConfigError, match=r"pixel_values(.|\n)*\[tiles, 3, 56, 56\]"):
            model.get_image_features(torch.zeros(shape))
