"""Encoders load from transformers' folders and from their publishers' own layouts, and give the same features."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from laco_export.errors import CheckpointError
from laco_export.models.encoders.loading import load_encoder, stated_preprocessing

PIXELS = torch.randn(2, 3, 56, 56, generator=torch.Generator().manual_seed(3))


def features(encoder):
    with torch.no_grad():
        return encoder(PIXELS).last_hidden_state


@pytest.mark.parametrize("name", ["aimv2", "siglip", "internvit", "clip"])
@pytest.mark.parametrize("shard", ["1GB", "20KB"])
def test_transformers_layout(make_encoder, tmp_path, name, shard):
    encoder = make_encoder(name)
    encoder.save_pretrained(tmp_path, max_shard_size=shard)
    assert (len(list(tmp_path.glob("*.safetensors"))) > 1) == (shard == "20KB")
    assert torch.equal(features(load_encoder(tmp_path)), features(encoder))


@pytest.mark.parametrize("family", ["siglip", "clip"])
def test_a_two_tower_folder_gives_its_vision_tower(tmp_path, family):
    import transformers

    prefix = {"siglip": "Siglip", "clip": "CLIP"}[family]
    size = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = getattr(transformers, f"{prefix}Config")(
        vision_config=size | {"image_size": 56, "patch_size": 14}, text_config=size | {"vocab_size": 50}
    )
    torch.manual_seed(0)
    full = getattr(transformers, f"{prefix}Model")(config).eval()
    full.save_pretrained(tmp_path)
    with torch.no_grad():
        expected = full.vision_model(PIXELS).last_hidden_state
    encoder = load_encoder(tmp_path)
    assert type(encoder).__name__ == f"{prefix}VisionModel"
    assert torch.equal(features(encoder), expected)


def aimv2_original(encoder):
    """apple/aimv2-large-patch14-*: names and config fields as in ml-aim's ``aim-v2`` and its transformers port."""
    source = encoder.state_dict()
    tensors = {
        "preprocessor.patchifier.proj.weight": source["embeddings.patch_embed.weight"],
        "preprocessor.patchifier.proj.bias": source["embeddings.patch_embed.bias"],
        "preprocessor.patchifier.norm.weight": source["embeddings.rms_norm.weight"],
        "preprocessor.pos_embed": source["embeddings.position_embedding.weight"][None],
        "trunk.post_trunk_norm.weight": source["rms_norm.weight"],
    }
    for index in range(encoder.config.num_hidden_layers):
        old, new = f"encoder.layers.{index}.", f"trunk.blocks.{index}."
        qkv = [source[f"{old}attention.{part}_proj.weight"] for part in "qkv"]
        tensors |= {
            new + "attn.qkv.weight": torch.cat(qkv),
            new + "attn.proj.weight": source[old + "attention.out_proj.weight"],
            new + "mlp.fc1.weight": source[old + "ffn.gate_proj.weight"],
            new + "mlp.fc2.weight": source[old + "ffn.down_proj.weight"],
            new + "mlp.fc3.weight": source[old + "ffn.up_proj.weight"],
            new + "norm_1.weight": source[old + "rms_norm1.weight"],
            new + "norm_2.weight": source[old + "rms_norm2.weight"],
        }
    config = {"architectures": ["AIMv2Model"], "model_type": "aimv2", "hidden_size": 32, "image_size": 56}
    config |= {"intermediate_size": 48, "num_attention_heads": 4, "num_hidden_layers": 4, "patch_size": 14}
    epsilon = encoder.config.rms_norm_eps
    return tensors, config | {"qkv_bias": False, "use_bias": False, "rms_norm_eps": epsilon, "num_channels": 3}


def internvit_original(encoder):
    """OpenGVLab/InternViT-300M-448px: names and config fields of its remote code ``modeling_intern_vit.py``."""
    source = encoder.state_dict()
    tensors = {
        "embeddings.class_embedding": source["embeddings.cls_token"],
        "embeddings.position_embedding": source["embeddings.position_embeddings"],
        "embeddings.patch_embedding.weight": source["embeddings.patch_embeddings.projection.weight"],
        "embeddings.patch_embedding.bias": source["embeddings.patch_embeddings.projection.bias"],
    }
    for index in range(encoder.config.num_hidden_layers):
        old, new = f"encoder.layer.{index}.", f"encoder.layers.{index}."
        for kind in ("weight", "bias"):
            if kind == "weight" or encoder.config.attention_bias:
                qkv = [source[f"{old}attention.{part}_proj.{kind}"] for part in "qkv"]
                tensors[f"{new}attn.qkv.{kind}"] = torch.cat(qkv)
            for theirs, ours in (
                ("attn.proj", "attention.projection_layer"),
                ("mlp.fc1", "mlp.fc1"),
                ("mlp.fc2", "mlp.fc2"),
                ("norm1", "layernorm_before"),
                ("norm2", "layernorm_after"),
            ):
                if f"{old}{ours}.{kind}" in source:  # an RMSNorm has no bias
                    tensors[f"{new}{theirs}.{kind}"] = source[f"{old}{ours}.{kind}"]
        for part in ("q_norm", "k_norm") if encoder.config.use_qk_norm else ():
            tensors[f"{new}attn.{part}.weight"] = source[f"{old}attention.{part}.weight"]
        tensors[new + "ls1"], tensors[new + "ls2"] = source[old + "lambda_1"], source[old + "lambda_2"]
    config = {"architectures": ["InternVisionModel"], "model_type": "intern_vit_6b", "hidden_size": 32}
    config |= {"image_size": 56, "patch_size": 14, "intermediate_size": 48, "num_attention_heads": 4}
    config |= {"num_hidden_layers": 4, "norm_type": encoder.config.norm_type}
    config |= {"qkv_bias": encoder.config.attention_bias, "qk_normalization": encoder.config.use_qk_norm}
    return tensors, config | {"layer_norm_eps": 1e-06, "hidden_act": "gelu", "drop_path_rate": 0.0}


def write(folder, tensors, config):
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config))


INTERNVIT_6B = {"use_qk_norm": True, "norm_type": "rms_norm", "attention_bias": False}


@pytest.mark.parametrize(
    ("name", "original", "changes"),
    [
        ("aimv2", aimv2_original, {}),
        ("aimv2", aimv2_original, {"rms_norm_eps": 0.1}),
        ("internvit", internvit_original, {"use_mean_pooling": True}),
        ("internvit", internvit_original, {"use_mean_pooling": True, **INTERNVIT_6B}),
    ],
)
def test_the_publishers_own_layout(make_encoder, tmp_path, name, original, changes):
    encoder = make_encoder(name, **changes)
    for parameter in encoder.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # norms and scales too: a swapped name must show
    write(tmp_path, *original(encoder))
    loaded = load_encoder(tmp_path)
    assert type(loaded) is type(encoder)
    assert torch.equal(features(loaded), features(encoder))


@pytest.fixture
def folder(make_encoder, tmp_path):
    make_encoder("aimv2").save_pretrained(tmp_path)
    return tmp_path


def test_an_unknown_architecture_lists_the_known(folder):
    (folder / "config.json").write_text(json.dumps({"model_type": "vit"}))
    with pytest.raises(CheckpointError, match=r"'vit'(.|\n)*aimv2_vision_model(.|\n)*intern_vit_6b(.|\n)*siglip"):
        load_encoder(folder)


def test_weights_for_another_resolution(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"image_size": 70}))
    with pytest.raises(CheckpointError, match=r"position_embedding\.weight \(16, 32\) for \(25, 32\)"):
        load_encoder(folder)


def test_missing_and_unexpected_tensors(folder):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    save_file(tensors | {"surprise": torch.zeros(1)}, path)
    with pytest.raises(CheckpointError, match="unexpected: surprise"):
        load_encoder(folder)
    tensors["norm.weight"] = tensors.pop("rms_norm.weight")
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=r"missing: rms_norm\.weight; unexpected: norm\.weight"):
        load_encoder(folder)


def test_weights_that_are_inf_are_named(folder):
    """Those that the folder holds, and those that a narrower dtype makes."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["rms_norm.weight"][3] = 1e30
    save_file(tensors, path)
    assert load_encoder(folder, dtype=torch.bfloat16).dtype == torch.bfloat16
    with pytest.raises(CheckpointError, match=r"inf or NaN in rms_norm\.weight"):
        load_encoder(folder, dtype=torch.float16)
    tensors["rms_norm.weight"][3] = float("inf")
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=r"inf or NaN in rms_norm\.weight"):
        load_encoder(folder)


def test_positions_computed_on_the_fly_are_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"is_native": True}))
    with pytest.raises(CheckpointError, match=r"position_embedding|is_native"):
        load_encoder(folder)


def test_truncated_and_absent(folder, tmp_path):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="damaged or cut off"):
        load_encoder(folder)
    with pytest.raises(CheckpointError, match="there is no folder"):
        load_encoder(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_attention_heads": 5}, r"config\.json' describes an encoder that cannot be built"),
        ({"hidden_size": "a"}, r"config\.json' describes an encoder that cannot be built"),
        ({"hidden_act": "none such"}, "hidden_act cannot be exported"),
    ],
)
def test_an_encoder_that_cannot_be_built(folder, changes, said):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(CheckpointError, match=said):
        load_encoder(folder)


def test_a_model_of_split_tensors_is_saved(make_encoder, make_model, tmp_path):
    """Query, key and value are views of one stored tensor; each must be written for itself."""
    from laco_export.models import LacoForConditionalGeneration

    encoder = make_encoder()
    write(tmp_path, *aimv2_original(encoder))
    make_model(load_encoder(tmp_path)).save_pretrained(tmp_path / "ckpt")
    loaded = LacoForConditionalGeneration.from_pretrained(tmp_path / "ckpt").vision_model.encoder
    assert torch.equal(features(loaded.eval()), features(encoder))


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_the_dtype_asked_for(folder, dtype):
    assert {parameter.dtype for parameter in load_encoder(folder, dtype=dtype).parameters()} == {dtype or torch.float32}


def edit(path, **fields):
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


@pytest.fixture
def siglip_folder(make_encoder, tmp_path):
    """SigLIP's folder with the preprocessing that it is published with."""
    from transformers import SiglipImageProcessor

    make_encoder("siglip").save_pretrained(tmp_path)
    SiglipImageProcessor(size={"height": 56, "width": 56}, do_convert_rgb=True).save_pretrained(tmp_path)
    return tmp_path


def test_the_published_preprocessing_is_nothing_to_remark_on(siglip_folder):
    preprocessing, remarks = stated_preprocessing(siglip_folder)
    assert (preprocessing.height, preprocessing.resize, preprocessing.mean) == (56, "squash", (0.5, 0.5, 0.5))
    assert remarks == ()
    (siglip_folder / "preprocessor_config.json").unlink()
    assert stated_preprocessing(siglip_folder) == (preprocessing, ())


def test_an_encoders_own_mean_and_deviation_are_taken_and_said(siglip_folder):
    edit(siglip_folder / "preprocessor_config.json", image_mean=[0.1, 0.2, 0.3])
    preprocessing, (remark,) = stated_preprocessing(siglip_folder)
    assert preprocessing.mean == (0.1, 0.2, 0.3)
    assert "image_mean [0.1, 0.2, 0.3]" in remark


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"resample": 2}, "resample: 2"),
        ({"rescale_factor": 1 / 127.5}, "rescale_factor"),
        ({"do_rescale": False}, "do_rescale false"),
        ({"do_normalize": False}, "do_normalize false"),
        ({"size": {"height": 84, "width": 84}}, "84 x 84"),
        ({"size": {"shortest_edge": 56}, "crop_size": 56}, "shortest_edge"),
        ({"size": {"shortest_edge": 64}, "crop_size": {"height": 56, "width": 56}}, "crop_size"),
        ({"image_mean": "0.5"}, "ValueError"),
        ({"size": {"longest_edge": 56}}, "shortest_edge"),
    ],
    ids=str,
)
def test_a_preprocessing_that_contradicts_the_encoder_is_refused(siglip_folder, fields, named):
    edit(siglip_folder / "preprocessor_config.json", **fields)
    with pytest.raises(CheckpointError, match="would not be given") as caught:
        stated_preprocessing(siglip_folder)
    assert named in caught.value.given


def test_a_field_that_would_be_passed_over_is_refused_by_name(siglip_folder):
    edit(siglip_folder / "config.json", num_registers=4)
    with pytest.raises(CheckpointError, match="does not read") as caught:
        load_encoder(siglip_folder)
    assert "num_registers 4" in caught.value.given


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"quantization_config": {"quant_method": "fp8"}}, "holds quantised weights"),
        ({"model_type": "aimv2", "vision_config": {}, "text_config": {}}, "text tower"),
    ],
    ids=str,
)
def test_a_folder_of_another_kind_is_told_as_what_it_is(siglip_folder, fields, said):
    edit(siglip_folder / "config.json", **fields)
    with pytest.raises(CheckpointError, match=said):
        load_encoder(siglip_folder)
