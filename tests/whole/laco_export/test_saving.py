"""Models are saved and loaded as users of transformers expect."""

import pytest
import torch

from laco_export.models import LacoConfig, LacoForConditionalGeneration


@pytest.mark.parametrize("tie", [True, False])
def test_save_and_load(make_model, prompt, tmp_path, tie):
    model = make_model(tie=tie)
    model.save_pretrained(tmp_path)
    loaded, info = LacoForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info.values())
    inputs = prompt(1)
    torch.testing.assert_close(loaded.eval()(**inputs).logits, model(**inputs).logits, rtol=0, atol=0)
    from safetensors import safe_open

    with safe_open(tmp_path / "model.safetensors", "pt") as file:
        assert ("language_model.lm_head.weight" in file.keys()) is not tie  # noqa: SIM118


def test_sharded_checkpoints_load(make_model, prompt, tmp_path):
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


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_loads_and_stays_close(make_model, prompt, tmp_path, dtype):
    model, inputs = make_model(), prompt(1)
    model.save_pretrained(tmp_path)
    half = LacoForConditionalGeneration.from_pretrained(tmp_path, dtype=dtype).eval()
    assert {parameter.dtype for parameter in half.parameters()} == {dtype}
    expected, actual = model(**inputs).logits, half(**inputs).logits
    assert actual.dtype == dtype
    assert torch.nn.functional.cosine_similarity(expected.flatten(), actual.flatten().float(), 0) > 0.999


def test_attn_implementation_of_from_pretrained(make_model, tmp_path):
    make_model().save_pretrained(tmp_path)
    model = LacoForConditionalGeneration.from_pretrained(tmp_path, attn_implementation="eager")
    assert model.vision_model.encoder.config._attn_implementation == "eager"
    assert model.language_model.config._attn_implementation == "eager"


def test_device_map(make_model, prompt, tmp_path):
    model, inputs = make_model(), prompt(1)
    model.save_pretrained(tmp_path)
    mapped = LacoForConditionalGeneration.from_pretrained(tmp_path, device_map="cpu").eval()
    assert torch.equal(mapped(**inputs).logits, model(**inputs).logits)
    assert "Qwen2DecoderLayer" in kept_whole(mapped)


def kept_whole(model):
    """Classes whose modules stay on one device: transformers 5 has collected the parts' when a model is built."""
    collect = getattr(model, "_get_no_split_modules", None)
    return collect("auto") if collect else model._no_split_modules


def test_a_device_map_keeps_the_tower_whole(make_model):
    from accelerate import infer_auto_device_map

    model = make_model()
    tower = sum(parameter.nbytes for parameter in model.vision_model.parameters())
    whole = sum(parameter.nbytes for parameter in model.parameters())
    for space in range(0, 2 * whole, tower // 3):  # wherever the first device is full
        devices = infer_auto_device_map(model, {"cpu": space, "disk": 10**9}, no_split_module_classes=kept_whole(model))
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


def test_a_depth_set_while_loading_is_used(make_model, tmp_path):
    """transformers sets such fields after the configuration was made, without its blocks."""
    make_model(at=("1/4", "1/2")).save_pretrained(tmp_path)
    loaded = LacoForConditionalGeneration.from_pretrained(tmp_path, compression={"depths": ["1/4"]})
    assert loaded.vision_model.block == 1
    assert list(loaded.vision_model.compressors) == ["block_1"]
