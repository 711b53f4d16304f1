"""LacoForConditionalGeneration behaves as users of transformers models expect."""

import pytest
import torch

from laco_export.errors import ConfigError, DepthError
from laco_export.models import CompressionConfig, LacoConfig, LacoForConditionalGeneration

IMAGE = 7


def prompt(images, length=12, seed=0):
    """``input_ids [1, T]`` with four image tokens for each of ``images`` pictures, and their pixels."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(10, 100, (1, length + 4 * images), generator=generator)
    for index in range(images):
        ids[0, 2 + 5 * index : 6 + 5 * index] = IMAGE
    pixels = torch.randn(images, 3, 56, 56, generator=generator)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids)} | ({"pixel_values": pixels} if images else {})


def greedy(model, inputs, **options):
    with torch.no_grad():
        return model.generate(**inputs, max_new_tokens=8, do_sample=False, **options)


@pytest.mark.parametrize("tie", [True, False])
def test_save_and_load(make_model, tmp_path, tie):
    model = make_model(tie=tie)
    model.save_pretrained(tmp_path)
    loaded, info = LacoForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    inputs = prompt(1)
    torch.testing.assert_close(loaded.eval()(**inputs).logits, model(**inputs).logits, rtol=0, atol=0)
    from safetensors import safe_open

    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert ("language_model.lm_head.weight" in file.keys()) is not tie  # noqa: SIM118


def test_sharded_checkpoints_load(make_model, tmp_path):
    model = make_model()
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 2
    inputs = prompt(1)
    loaded = LacoForConditionalGeneration.from_pretrained(tmp_path).eval()
    assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)


def test_auto_classes_find_it(make_model, tmp_path):
    from transformers import AutoConfig, AutoModelForImageTextToText

    make_model().save_pretrained(tmp_path)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), LacoConfig)
    assert isinstance(AutoModelForImageTextToText.from_pretrained(tmp_path), LacoForConditionalGeneration)


@pytest.mark.parametrize("images", [0, 1, 2])
def test_generate_with_and_without_cache(make_model, images):
    model, inputs = make_model(), prompt(images)
    assert torch.equal(greedy(model, inputs), greedy(model, inputs, use_cache=False))


def test_the_pictures_are_seen(make_model):
    model, inputs = make_model(), prompt(1)
    other = {**inputs, "pixel_values": torch.randn(1, 3, 56, 56) * 3}
    assert not torch.allclose(model(**inputs).logits, model(**other).logits)


def test_each_picture_stands_at_its_own_tokens(make_model):
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


def test_left_padding_and_batching_change_nothing(make_model):
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
def test_beams_and_sampling(make_model, options):
    model, inputs = make_model(), prompt(2)
    results = []
    for use_cache in (True, False):
        torch.manual_seed(5)
        with torch.no_grad():
            results.append(model.generate(**inputs, max_new_tokens=6, use_cache=use_cache, **options))
    assert results[0].shape[1] > inputs["input_ids"].shape[1]
    assert torch.equal(*results)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_loads_and_stays_close(make_model, tmp_path, dtype):
    model, inputs = make_model(), prompt(1)
    model.save_pretrained(tmp_path)
    half = LacoForConditionalGeneration.from_pretrained(tmp_path, dtype=dtype).eval()
    assert {parameter.dtype for parameter in half.parameters()} == {dtype}
    expected, actual = model(**inputs).logits, half(**inputs).logits
    assert actual.dtype == dtype
    assert torch.nn.functional.cosine_similarity(expected.flatten(), actual.flatten().float(), 0) > 0.999


@pytest.mark.parametrize("encoder", ["aimv2", "siglip", "internvit", "clip"])
def test_eager_and_sdpa_agree(make_encoder, make_model, encoder):
    model, inputs = make_model(make_encoder(encoder)), prompt(1)
    logits = []
    for implementation in ("eager", "sdpa"):
        model.set_attn_implementation(implementation)
        assert model.vision_model.encoder.config._attn_implementation == implementation
        assert model.language_model.config._attn_implementation == implementation
        logits.append(model(**inputs).logits)
    torch.testing.assert_close(*logits, rtol=0, atol=1e-5)


def test_attn_implementation_of_from_pretrained(make_model, tmp_path):
    make_model().save_pretrained(tmp_path)
    model = LacoForConditionalGeneration.from_pretrained(tmp_path, attn_implementation="eager")
    assert model.vision_model.encoder.config._attn_implementation == "eager"
    assert model.language_model.config._attn_implementation == "eager"


def test_device_map(make_model, tmp_path):
    model, inputs = make_model(), prompt(1)
    model.save_pretrained(tmp_path)
    mapped = LacoForConditionalGeneration.from_pretrained(tmp_path, device_map="cpu").eval()
    assert torch.equal(mapped(**inputs).logits, model(**inputs).logits)
    assert "Qwen2DecoderLayer" in mapped._get_no_split_modules("auto")


def test_resizing_the_embeddings_keeps_them_tied(make_model):
    model = make_model()
    model.resize_token_embeddings(120)
    assert model.get_input_embeddings().weight.shape[0] == 120
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert model(**prompt(1)).logits.shape[-1] == 120
    assert model.config.text_config.vocab_size == 120


def test_gradient_checkpointing_gives_the_same_gradients(make_model):
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
    assert model.set_depth("1/4") == 1
    shallow = model.get_image_features(pixels)
    assert model.set_depth("block:2") == 2
    assert not torch.allclose(shallow, model.get_image_features(pixels))
    with pytest.raises(DepthError, match=r"1/3(.|\n)*1/4 \(block:1\), 1/2 \(block:2\)"):
        model.set_depth("1/3")


def test_wrong_number_of_image_tokens(make_model):
    inputs = prompt(1)
    inputs["input_ids"][0, 2] = 11
    with pytest.raises(ConfigError, match=r"3 image tokens for 1 pictures(.|\n)*4 tokens: 4"):
        make_model()(**inputs)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ratio": 5}, r"compression\.ratio"),
        ({"depths": ("2",)}, r"outside \(0, 1\]"),
        ({"depths": ("block:9",)}, "beyond the encoder's last block"),
        ({"depths": ("1/2", "block:2")}, "same block"),
        ({"blocks": (3,)}, "not what compression.depths resolves to"),
        ({"method": "nothing"}, "compression.method is unknown"),
    ],
)
def test_a_wrong_configuration_names_its_field(make_model, changes, message):
    config = make_model().config
    with pytest.raises(
        ConfigError if "depths" not in changes or "1/2" in changes["depths"] else DepthError, match=message
    ):
        LacoForConditionalGeneration(
            LacoConfig(config.vision_config, config.text_config, {**config.compression, "blocks": (), **changes})
        )


def test_an_unknown_encoder_lists_the_known():
    with pytest.raises(
        ConfigError, match=r"vit(.|\n)*aimv2_vision_model, clip_vision_model, internvl_vision, siglip_vision_model"
    ):
        LacoConfig({"model_type": "vit"})


def test_a_grid_smaller_than_the_window(make_encoder, make_model):
    with pytest.raises(ConfigError, match="smaller than the merge window"):
        make_model(make_encoder(image_size=28), ratio=3)


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
def test_beams_and_samples_see_their_own_prompts_pictures(make_model, options):
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


def test_a_picture_does_not_reach_into_the_next_prompt(make_model):
    """Three and five image tokens: the total is right, and a picture's last embedding would land in another prompt."""
    batch = left_padded([prompt(1, 12, 0), prompt(1, 12, 1)])
    batch["input_ids"][0, 5], batch["input_ids"][1, 6] = 11, IMAGE
    model = make_model()
    for call in (model, lambda **inputs: greedy(model, {**inputs, "num_beams": 2})):
        with pytest.raises(ConfigError, match=r"8 image tokens for 2 pictures, by prompt: 3, 5(.|\n)*8 tokens: 4, 4"):
            call(**batch)


def test_image_tokens_without_pictures(make_model):
    inputs = prompt(1)
    del inputs["pixel_values"]
    with pytest.raises(ConfigError, match="4 image tokens for 0 pictures"):
        make_model()(**inputs)


@pytest.mark.parametrize("encoder", ["aimv2", "siglip", "internvit", "clip"])
def test_pixels_of_another_size_are_refused(make_encoder, make_model, encoder):
    model = make_model(make_encoder(encoder), method=None)
    for shape in ((1, 3, 70, 70), (1, 1, 56, 56), (1, 1, 3, 56, 56)):
        with pytest.raises(ConfigError, match=r"pixel_values(.|\n)*\[tiles, 3, 56, 56\]"):
            model.get_image_features(torch.zeros(shape))


def test_a_cache_is_continued(make_model):
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


def test_generate_computes_the_last_logits_alone(make_model):
    """At full size the logits of a tiled picture's prompt would take gigabytes."""
    model, shapes = make_model(), []
    head = model.get_output_embeddings()
    head.register_forward_hook(lambda module, args, output: shapes.append(output.shape[1]))
    greedy(model, prompt(1))
    assert set(shapes) == {1}


def test_left_padding_with_absolute_positions(make_model):
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


def test_generate_from_embeddings(make_model):
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


def test_a_device_map_keeps_the_tower_whole(make_model):
    from accelerate import infer_auto_device_map

    model = make_model()
    tower = sum(parameter.nbytes for parameter in model.vision_model.parameters())
    whole = sum(parameter.nbytes for parameter in model.parameters())
    for space in range(0, 2 * whole, tower // 3):  # wherever the first device is full
        devices = infer_auto_device_map(
            model, {"cpu": space, "disk": 10**9}, no_split_module_classes=model._get_no_split_modules("auto")
        )
        assert not any(name.startswith("vision_model.") for name in devices), devices


@pytest.mark.parametrize("method", ["laco", "ldpv2", "token_packer"])
def test_what_a_checkpoint_lacks_is_initialised(make_model, tmp_path, method, monkeypatch):
    """Memory that was never written must not become weights: here such memory holds NaN."""
    model = make_model(method=method)
    model.save_pretrained(tmp_path, state_dict={n: t for n, t in model.state_dict().items() if "compressors" not in n})
    empty_like = torch.empty_like
    monkeypatch.setattr(
        torch,
        "empty_like",
        lambda *a, **k: t.fill_(float("nan")) if (t := empty_like(*a, **k)).is_floating_point() else t,
    )
    loaded = LacoForConditionalGeneration.from_pretrained(tmp_path, tiling={"tile": 56})
    for name, parameter in loaded.named_parameters():
        assert torch.isfinite(parameter).all(), name
        assert parameter.abs().max() < 5, name
    assert loaded.image_newline.std() < 1


def test_a_tiled_checkpoint_keeps_its_newline_where_another_part_is_missing(make_model, tmp_path):
    model = make_model(tiling={"tile": 56})
    tensors = {n: t for n, t in model.state_dict().items() if n != "projector.linear_1.bias"}
    model.save_pretrained(tmp_path, state_dict=tensors)
    loaded = LacoForConditionalGeneration.from_pretrained(tmp_path)
    assert torch.equal(loaded.image_newline, model.image_newline)


def test_only_the_main_process_writes_checksums(make_model, tmp_path):
    make_model().save_pretrained(tmp_path, is_main_process=False)
    assert not list(tmp_path.glob("checksums.json"))


def test_an_elastic_checkpoint_is_saved_and_loaded(make_model, tmp_path):
    model = make_model(at=("1/4", "1/2", "1"))
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    loaded = LacoForConditionalGeneration.from_pretrained(tmp_path).eval()
    pixels = torch.randn(1, 3, 56, 56)
    features = []
    for depth in ("1/4", "1/2", "1"):
        assert model.set_depth(depth) == loaded.set_depth(depth)
        features.append(model.get_image_features(pixels))
        assert torch.equal(loaded.get_image_features(pixels), features[-1])
    assert not torch.allclose(features[0], features[1])
    assert not torch.allclose(features[1], features[2])


def test_one_depth_may_be_written_without_a_list():
    assert CompressionConfig(depths="1/2") == CompressionConfig(depths=("1/2",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"feature_layer": "-2"}, "feature_layer"),
        ({"feature_layer": -5}, "feature_layer"),
        ({"feature_layer": 0}, "feature_layer"),
        ({"video_pooling": "2"}, "video_pooling"),
        ({"image_token_id": -1}, "image_token_id"),
        ({"projector_hidden_size": 0}, "projector_hidden_size"),
        ({"compression": {"mlp_hidden_size": "64"}}, r"compression\.mlp_hidden_size"),
        ({"compression": {"mlp_hidden_size": 0}}, r"compression\.mlp_hidden_size"),
    ],
)
def test_a_field_of_another_kind_is_named(make_model, changes, message):
    config = make_model().config
    with pytest.raises(ConfigError, match=message):
        LacoConfig(config.vision_config, config.text_config, **changes)


def test_a_depth_set_while_loading_is_used(make_model, tmp_path):
    """transformers sets such fields after the configuration was made, without its blocks."""
    make_model(at=("1/4", "1/2")).save_pretrained(tmp_path)
    loaded = LacoForConditionalGeneration.from_pretrained(tmp_path, compression={"depths": ["1/4"]})
    assert loaded.vision_model.block == 1
    assert list(loaded.vision_model.compressors) == ["block_1"]


def test_an_encoder_with_a_pooling_head_is_refused(make_encoder, make_model):
    encoder = make_encoder("siglip")
    del encoder.config.vision_use_head  # SiglipVisionModel builds the head where the field is missing
    with pytest.raises(ConfigError, match=r"vision_config\.vision_use_head must be False"):
        make_model(encoder)


def test_an_internvit_that_is_not_square_is_refused(make_encoder, make_model):
    encoder = make_encoder("internvit")
    encoder.config.image_size = (56, 84)  # transformers would build it, and fail on the first picture
    with pytest.raises(ConfigError, match=r"vision_config\.image_size of internvl_vision must be square") as error:
        make_model(encoder)
    assert error.value.given == [56, 84]


def test_a_picture_too_many(make_model):
    inputs = prompt(1)
    inputs["pixel_values"] = inputs["pixel_values"].repeat(2, 1, 1, 1)
    with pytest.raises(ConfigError, match=r"4 image tokens for 2 pictures(.|\n)*8 tokens: 4, 4"):
        make_model()(**inputs)
