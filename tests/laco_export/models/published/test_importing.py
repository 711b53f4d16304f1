"""From a folder to a checkpoint: what it may look like, what is said of it, and what is refused."""

import json

import pytest
import torch
from published_folders import change_json, rename_tensors
from published_parity import CASES, TOLERANCE, difference, inputs_of
from safetensors.torch import load_file, save_file

from laco_export.errors import CheckpointError, ConfigError
from laco_export.models import checkpoint
from laco_export.models.published import LAYOUTS, import_published, read_published
from laco_export.published_families import PUBLISHED_FAMILIES


@pytest.mark.parametrize("family", ["llava_onevision", "internvl"])
def test_a_checkpoint_is_the_model_too(imported, tmp_path, family):
    """Saved, loaded and merged nowhere: tied head, template, layout and tiling come along."""
    theirs, _ = imported(family)
    import_published(theirs.folder, tmp_path / "ckpt")
    loaded = checkpoint.load(tmp_path / "ckpt")
    assert loaded.model.config.compression_config.method is None
    assert loaded.model.config.untrained == []
    template = (tmp_path / "ckpt" / "chat_template.jinja").read_text()
    assert template == (theirs.folder / "chat_template.jinja").read_text()
    for case in ("wide", "several pictures", "a video"):
        assert difference(theirs, loaded.model, loaded.processor, CASES[case]) < TOLERANCE


def test_shards_of_half_precision_stay_what_they_are(copied):
    theirs, folder = copied("llava_onevision")
    tensors = {name: tensor.bfloat16() for name, tensor in load_file(folder / "model.safetensors").items()}
    (folder / "model.safetensors").unlink()
    names, files = sorted(tensors), {}
    for number, part in enumerate((names[::2], names[1::2]), 1):
        shard = f"model-0000{number}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, folder / shard, {"format": "pt"})
        files.update(dict.fromkeys(part, shard))
    index = {"metadata": {"total_size": 0}, "weight_map": files}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    ours = read_published(folder)
    assert {parameter.dtype for parameter in ours.model.parameters()} == {torch.bfloat16}
    for name, tensor in ours.model.language_model.model.state_dict().items():
        assert torch.equal(tensor, tensors[f"language_model.model.{name}"])
    whole = read_published(folder, dtype=torch.float32)
    rounded = type(theirs)(**{**vars(theirs), "model": type(theirs.model).from_pretrained(folder, dtype=torch.float32)})
    assert difference(rounded, whole.model, whole.processor, CASES["wide"]) < TOLERANCE


def test_a_head_that_is_stored_though_tied_is_skipped_by_name(copied):
    _, folder = copied("llava_onevision")
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["language_model.lm_head.weight"] = tensors["language_model.model.embed_tokens.weight"].clone()
    tensors["language_model.model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.ones(8)
    save_file(tensors, path, {"format": "pt"})
    remark = read_published(folder).remarks[-1]
    assert remark.startswith("2 stored tensors have no place: language_model.lm_head.weight, ")


def test_end_tokens_are_all_kept(copied):
    theirs, folder = copied("internvl")
    other = theirs.processor.tokenizer.convert_tokens_to_ids("<|im_start|>")
    change_json(folder / "generation_config.json", eos_token_id=[theirs.model.config.text_config.eos_token_id, other])
    ours = read_published(folder)
    assert ours.model.generation_config.eos_token_id == [256, other]


@pytest.mark.parametrize("family", ["llava_onevision", "internvl"])
def test_a_merge_inside_is_the_average_and_tokens_stay_whole(imported, tmp_path, family):
    """InternVL's language model sees as many tokens as before, LLaVA-OneVision's frames too."""
    (theirs, before), said = imported(family), []
    model = import_published(theirs.folder, tmp_path / "ckpt", at=["1/3"], say=said.append)
    window = "the window of 2 x 2 behind the encoder, which left the language model 4 tokens a tile"
    assert [window in line for line in said] == ([True] if family == "internvl" else [])
    loaded = checkpoint.load(tmp_path / "ckpt")
    assert loaded.model.vision_model.block == 1
    inputs = inputs_of(theirs, loaded.processor, CASES["a batch"])[1]
    assert torch.isfinite(loaded.model(**inputs).logits).all()
    (compressor,) = model.vision_model.compressors.values()
    grid = torch.randn(1, 4, 4, 32)
    average = torch.nn.functional.avg_pool2d(grid.permute(0, 3, 1, 2), 2).permute(0, 2, 3, 1)
    torch.testing.assert_close(compressor(grid).reshape(average.shape), average)
    video, frames = CASES["a video"], 3
    counts = [
        (inputs_of(theirs, processor, video)[1]["input_ids"] == theirs.image_id).sum()
        for processor in (before.processor, loaded.processor)
    ]
    assert counts[0] == counts[1] == (4 * frames if family == "internvl" else 9 * frames + 1)


def test_a_merge_that_leaves_part_of_a_window_is_refused(imported, tmp_path):
    theirs, _ = imported("internvl")
    with pytest.raises(ConfigError, match="projector's window"):
        import_published(theirs.folder, tmp_path / "ckpt", at=["1/3"], ratio=3)
    assert not (tmp_path / "ckpt").exists()


def without(name):
    return lambda folder: rename_tensors(folder, lambda n, tensor: {} if n == name else {n: tensor})


def test_an_end_token_without_a_row_is_left_out(copied):
    _, folder = copied("llava_onevision")
    end = json.loads((folder / "config.json").read_text())["text_config"]["eos_token_id"]
    change_json(folder / "generation_config.json", eos_token_id=[5, 99_999])
    ours = read_published(folder)
    assert "the model has no row for it: 99999" in " ".join(ours.remarks)
    assert ours.model.generation_config.eos_token_id == [end, 5]


def of_text(**changes):
    def change(folder):
        text = json.loads((folder / "config.json").read_text())["text_config"]
        change_json(folder / "config.json", text_config={**text, **changes})

    return change


def of_vision(**changes):
    def change(folder):
        vision = json.loads((folder / "config.json").read_text())["vision_config"]
        change_json(folder / "config.json", vision_config={**vision, **changes})

    return change


def with_tensor(name, *shape):
    def add(folder):
        tensors = {**load_file(folder / "model.safetensors"), name: torch.zeros(shape)}
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    return add


def renamed(name, other):
    return lambda folder: rename_tensors(folder, lambda n, tensor: {other if n == name else n: tensor})


def spoiled(*endings):
    def spoil(folder):
        tensors = load_file(folder / "model.safetensors")
        for ending, value in zip(endings, (float("nan"), float("-inf")), strict=True):
            (name,) = (name for name in tensors if name.endswith(ending))
            tensors[name].view(-1)[-1] = value
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    return spoil


def pickled(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def cut_off(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def stated_for_pictures(**changes):
    return lambda folder: change_json(folder / "preprocessor_config.json", **changes)


def model_type(name):
    return lambda folder: change_json(folder / "config.json", model_type=name)


REFUSED = {
    "another family": (model_type("cogvlm2"), "a family that is not known(.|\n)*LLaVA-OneVision(.|\n)*InternVL"),
    "native resolution": (model_type("qwen2_vl"), "pictures of any size, with rotary positions"),
    "another form": (model_type("mllama"), "cross attention"),
    "LLaVA's own Llama": (model_type("llava_llama"), "llava-hf"),
    "a checkpoint of this project": (model_type("laco"), "is a LaCo checkpoint already"),
    "weights as a pickle": (pickled, "pickled weights"),
    "LoRA adapters": (lambda folder: (folder / "adapter_config.json").write_text("{}"), "merge_and_unload"),
    "Mistral's text": (of_text(model_type="mistral"), "cannot be exported(.|\n)*mistral"),
    "a sliding window": (
        of_text(sliding_window=8, layer_types=["full_attention", "sliding_attention"]),
        "sliding window",
    ),
    "weights in few bits": (
        lambda folder: change_json(folder / "config.json", quantization_config={"quant_method": "awq"}),
        "quantised weights",
    ),
    "a tower of any resolution": (
        lambda folder: change_json(folder / "config.json", vision_config={"model_type": "pixtral"}),
        "no known vision encoder(.|\n)*pixtral",
    ),
    "a lost tensor": (without("image_newline"), "missing: image_newline"),
    "a tensor too many": (with_tensor("multi_modal_projector.linear_3.weight", 4), "unexpected: multi_modal"),
    "a tensor of another shape": (with_tensor("image_newline", 4), r"image_newline \(4,\) for \(48,\)"),
    "tensors of other names": (renamed("image_newline", "newline"), "missing: image_newline; unexpected: newline"),
    "weights that are no numbers": (
        spoiled("encoder.layers.1.mlp.fc1.bias", "language_model.model.norm.weight"),
        r"inf or NaN in language_model\.model\.norm\.weight, vision_tower\.\S*encoder\.layers\.1\.mlp\.fc1",
    ),
    "an activation with weights of its own": (of_text(hidden_act="xielu"), r"cannot be exported(.|\n)*'xielu'"),
    "a damaged file": (cut_off, "damaged or cut off"),
    "a head's size that is no number": (of_text(head_dim="16"), "config.json' cannot be read"),
    "an end token that is no id": (
        of_text(eos_token_id="<|im_end|>"),
        "no token's id(.|\n)*im_end|field 'eos_token_id'(.|\n)*im_end",
    ),
    "pictures of no size": (of_vision(image_size=0), r"vision_config\.image_size must be a whole number"),
    "pictures of half a size": (of_vision(image_size=[70]), r"vision_config\.image_size must be a whole number"),
    "patches of no size": (
        of_vision(patch_size="14"),
        r"vision_config\.patch_size must be a whole number|field 'patch_size'.*'14'",
    ),
    "a tower that is no name": (of_vision(model_type=["siglip_vision_model"]), "no known vision encoder"),
    "a tokenizer's length that is no number": (
        lambda folder: change_json(folder / "tokenizer_config.json", model_max_length="2048"),
        "tokenizer of .* cannot be loaded",
    ),
    "another model's tokenizer": (of_text(vocab_size=200), "tokens for which the model has no row"),
    "a far smaller tokenizer": (of_text(vocab_size=9000), "far fewer tokens"),
    "a picture's token that is none": (
        lambda folder: change_json(folder / "config.json", image_token_index=299),
        "image_token_index 299",
    ),
    "no chat template": (lambda folder: (folder / "chat_template.jinja").unlink(), "has no chat template"),
    "pictures of another size": (
        stated_for_pictures(size={"height": 84, "width": 84}),
        "not of its encoder's size",
    ),
    "another filter": (stated_for_pictures(resample=2), r"resample\n +given: +2\n +allowed: +3 \(bicubic\)"),
    "pictures that are not resized": (stated_for_pictures(do_resize=False), "step is left out(.|\n)*do_resize False"),
    "nothing": (lambda folder: (folder / "config.json").unlink(), "has no config.json"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_such_folder_is_refused_with_the_reason(copied, tmp_path, case):
    _, folder = copied("llava_onevision")
    change, said = REFUSED[case]
    change(folder)
    with pytest.raises(CheckpointError) as refused:
        import_published(folder, tmp_path / "ckpt")
    assert refused.match(said)
    assert not (tmp_path / "ckpt").exists()


def test_the_families_are_named_once():
    assert set(LAYOUTS) == set(PUBLISHED_FAMILIES)
