"""What is no sound checkpoint is refused, with a message that says what is wrong."""

import json
import os
import time

import pytest
import torch
from safetensors.torch import load_file, save_file

from laco_export.errors import CheckpointError
from laco_export.models import checkpoint
from laco_export.models.transformers_versions import rotary_parameters


@pytest.fixture
def folder(make_model, tmp_path):
    """A sound checkpoint, saved in a folder of the test's own."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    from laco_export.models import LacoImageProcessor, LacoProcessor

    model = make_model()
    words = {"<pad>": 0, "<|im_start|>": 1, "<|im_end|>": 2, "<|image_pad|>": 7, "a": 8}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel(words, unk_token="<pad>")))
    preprocessing = model.vision_model.spec.preprocessing(model.config.vision_config)
    processor = LacoProcessor(LacoImageProcessor(**preprocessing.to_dict()), tokenizer, model.tokens_per_image)
    checkpoint.save(model, processor, tmp_path / "ckpt")
    return tmp_path / "ckpt"


def edit_tensors(folder, edit):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    edit(tensors)
    save_file(tensors, path, metadata={"format": "pt"})
    (folder / "checksums.json").unlink()


def edit_config(folder, edit):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    edit(config)
    path.write_text(json.dumps(config))


def test_a_sound_checkpoint_loads(folder, make_model):
    loaded = checkpoint.load(folder)
    assert loaded.checked
    assert loaded.processor.image_seq_length == 4
    assert not loaded.model.training
    expected = make_model().state_dict()
    for name, tensor in loaded.model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


def test_the_digest_follows_the_weights(folder):
    before = checkpoint.load(folder).sha256
    edit_tensors(folder, lambda tensors: tensors["projector.linear_1.bias"].add_(1))
    after = checkpoint.load(folder)
    assert after.sha256 != before
    assert not after.checked


@pytest.mark.parametrize("keep", [0, 7, 500, 0.5, 0.999])
def test_truncated(folder, keep):
    path = folder / "model.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[: keep if isinstance(keep, int) else int(len(data) * keep)])
    with pytest.raises(CheckpointError, match=r"model\.safetensors' is damaged"):
        checkpoint.load(folder)


@pytest.mark.parametrize("position", [0, 9, 200, 0.5, 0.9999])
def test_a_flipped_bit(folder, position):
    path = folder / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[position if isinstance(position, int) else int(len(data) * position)] ^= 4
    path.write_bytes(data)
    with pytest.raises(CheckpointError):
        checkpoint.load(folder)


def test_a_missing_tensor(folder):
    edit_tensors(folder, lambda tensors: tensors.pop("projector.linear_1.bias"))
    with pytest.raises(CheckpointError, match=r"missing: projector\.linear_1\.bias"):
        checkpoint.load(folder)


def test_an_unexpected_tensor(folder):
    edit_tensors(folder, lambda tensors: tensors.update(extra=torch.zeros(2)))
    with pytest.raises(CheckpointError, match="unexpected: extra"):
        checkpoint.load(folder)


def test_a_tensor_of_another_shape(folder):
    edit_tensors(folder, lambda tensors: tensors.update({"projector.linear_1.bias": torch.zeros(5)}))
    with pytest.raises(CheckpointError, match=r"projector\.linear_1\.bias \(5,\) for \(32,\)"):
        checkpoint.load(folder)


def test_a_pickle_is_refused(folder):
    (folder / "model.safetensors").unlink()
    torch.save({}, folder / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pickled(.|\n)*pytorch_model\.bin(.|\n)*model\.safetensors"):
        checkpoint.load(folder)


def test_a_missing_shard(folder, make_model):
    (folder / "model.safetensors").unlink()
    make_model().save_pretrained(folder, max_shard_size="40KB")
    shards = sorted(folder.glob("*.safetensors"))
    assert checkpoint.load(folder).checked
    shards[1].unlink()
    with pytest.raises(CheckpointError, match=shards[1].name):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda config: config.update(model_type="llava"), "'llava'(.|\n)*'laco'"),
        (lambda config: config["compression"].update(ratio=7), r"compression\.ratio"),
        (lambda config: config["compression"].update(speed=7), "unknown fields: speed"),
        (lambda config: config["vision_config"].update(hidden_size=64), "of another shape"),
        (lambda config: config["vision_config"].update(num_attention_heads=5), "cannot be built(.|\n)*divisible"),
    ],
)
def test_a_wrong_config(folder, edit, message):
    from laco_export.errors import LacoError

    edit_config(folder, edit)
    with pytest.raises(LacoError, match=message):
        checkpoint.load(folder)


def test_no_checkpoint(tmp_path, folder):
    with pytest.raises(CheckpointError, match="there is no folder"):
        checkpoint.load(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        checkpoint.load(tmp_path)
    (folder / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match="is not JSON"):
        checkpoint.load(folder)


@pytest.mark.parametrize("name", ["tokenizer.json", "preprocessor_config.json"])
def test_a_missing_or_broken_processor_file(folder, name):
    (folder / name).write_text("{broken")
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        checkpoint.load(folder)
    (folder / name).unlink()
    with pytest.raises(CheckpointError, match="cannot be loaded"):
        checkpoint.load(folder)


@pytest.mark.parametrize("tie", [True, False])
def test_only_a_tied_head_may_be_absent(make_model, tmp_path, tie):
    model = make_model(tie=tie)
    tensors = {name: tensor for name, tensor in model.state_dict().items() if "lm_head" not in name}
    model.save_pretrained(tmp_path, state_dict=tensors)
    audit = lambda: checkpoint.audit_tensors(
        tmp_path, [tmp_path / "model.safetensors"], checkpoint.read_config(tmp_path)
    )
    if tie:
        audit()
    else:
        with pytest.raises(CheckpointError, match=r"missing: language_model\.lm_head\.weight"):
            audit()


def test_pickles_are_never_written(make_model, tmp_path):
    make_model().save_pretrained(tmp_path, safe_serialization=False)
    assert [path.name for path in tmp_path.glob("*model*")] == ["model.safetensors"]


def test_a_shard_outside_the_folder_is_refused(folder):
    (folder / "model.safetensors").rename(folder.parent / "model.safetensors")
    index = {"weight_map": {"projector.linear_1.bias": "../model.safetensors"}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"lacks a shard(.|\n)*\.\./model\.safetensors"):
        checkpoint.load(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_token_id": 8}, r"image token is 7, the padding token None(.|\n)*image_token_id, 8"),
        ({"pad_token": "<|image_pad|>"}, r"image token is 7, the padding token 7"),
    ],
)
def test_a_tokenizer_that_does_not_fit_its_model(folder, change, message):
    """Found here, rather than where the bundle is run."""
    path = folder / ("config.json" if "image_token_id" in change else "tokenizer_config.json")
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(CheckpointError, match=message):
        checkpoint.load(folder)


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_whom_the_umask_lets_can_read_the_weights(folder, tmp_path, umask):
    """safetensors makes its files their owner's alone: another user or container could not open a checkpoint."""
    loaded = checkpoint.load(folder)
    before = os.umask(umask)
    try:
        checkpoint.save(loaded.model, loaded.processor, tmp_path / "saved")
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "saved").iterdir()}
    assert set(modes.values()) == {0o666 & ~umask}
    assert "model.safetensors" in modes and "mode" not in modes


def test_a_million_layers_are_refused_at_once(folder):
    """transformers takes half a minute to make a configuration of them."""
    path = folder / "config.json"
    values = json.loads(path.read_text())
    text = {name: value for name, value in values["text_config"].items() if name != "layer_types"}
    path.write_text(json.dumps({**values, "text_config": {**text, "num_hidden_layers": 1_000_000}}))
    start = time.process_time()
    with pytest.raises(CheckpointError, match="more layers than any has"):
        checkpoint.read_config(folder)
    assert time.process_time() - start < 2


@pytest.mark.parametrize("rope_type", ["default", "yarn", "proportional"])
def test_the_rotary_embedding_of_a_checkpoint_that_transformers_5_saved(folder, rope_type):
    path = folder / "config.json"
    values = json.loads(path.read_text())
    text = {k: v for k, v in values["text_config"].items() if k not in ("rope_theta", "rope_scaling")}
    rope = {"rope_theta": 1e6, "rope_type": rope_type}
    if rope_type == "yarn":
        rope |= {"factor": 4.0, "original_max_position_embeddings": 512}
    path.write_text(json.dumps({**values, "text_config": {**text, "rope_parameters": rope}}))
    if rope_type == "proportional":
        with pytest.raises(CheckpointError, match="would not compute as stated"):
            checkpoint.read_config(folder)
        return
    assert rotary_parameters(checkpoint.read_config(folder).text_config) == rope
