"""A checkpoint starts from an encoder folder and a language-model folder."""

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from laco_export.errors import CheckpointError, ConfigError
from laco_export.models import checkpoint
from laco_export.models.initialization import average_merges, initialize, patterns, scale_projector

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|image_pad|>"]


def write_language_model(folder, special=SPECIAL, family="qwen2", rows=300):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    torch.manual_seed(0)
    config = CONFIG_MAPPING[family](
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        vocab_size=rows,
        tie_word_embeddings=True,
    )
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    vocabulary = {token: index for index, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(vocabulary, []))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, additional_special_tokens=special)
    tokenizer.save_pretrained(folder)


@pytest.mark.parametrize("encoder", ["aimv2", "siglip", "internvit", "clip"])
@pytest.mark.parametrize("family", ["qwen2", "llama"])
def test_initialize_and_generate(make_encoder, tmp_path, encoder, family):
    make_encoder(encoder).save_pretrained(tmp_path / "encoder")
    write_language_model(tmp_path / "llm", family=family)
    initialize(tmp_path / "encoder", tmp_path / "llm", tmp_path / "ckpt", at="1/4", method="pixel_shuffle")
    loaded = checkpoint.load(tmp_path / "ckpt")
    config = loaded.model.config
    assert config.untrained == ["compressors", "projector"]
    assert config.compression["blocks"] in ((1,), [1])
    assert config.image_token_id == loaded.processor.image_token_id
    picture = Image.new("RGB", (60, 40), "red")
    inputs = loaded.processor(images=[picture], text="<image>\nwhat?", return_tensors="pt")
    assert loaded.model.generate(**inputs, max_new_tokens=3, do_sample=False).shape[0] == 1


@pytest.mark.parametrize("family", ["qwen2", "llama"])
def test_a_tokenizer_without_the_image_token(make_encoder, tmp_path, family):
    """The model grows, and says so; a picture is answered to."""
    make_encoder().save_pretrained(tmp_path / "encoder")
    write_language_model(tmp_path / "llm", special=SPECIAL[:-1], family=family, rows=259)
    said = []
    initialize(tmp_path / "encoder", tmp_path / "llm", tmp_path / "ckpt", say=said.append)
    assert "<|image_pad|> (259), <|video_pad|> (260); 0 take free rows of the model, 2 rows are added" in said[0]
    loaded = checkpoint.load(tmp_path / "ckpt")
    config, tokenizer = loaded.model.config, loaded.processor.tokenizer
    assert config.image_token_id == loaded.processor.image_token_id == 259
    assert config.text_config.vocab_size == len(tokenizer) == 261
    assert config.text_config.pad_token_id == tokenizer.pad_token_id == 256
    assert loaded.model.get_input_embeddings().num_embeddings == 261
    inputs = loaded.processor(images=[Image.new("RGB", (60, 40), "red")], text="<image>\nwhat?", return_tensors="pt")
    assert loaded.model.generate(**inputs, max_new_tokens=3, do_sample=False).shape[0] == 1
    chat = [{"role": "user", "content": [{"type": "text", "text": "what?"}]}]
    # What transformers' users call.
    ids = tokenizer.apply_chat_template(chat, add_generation_prompt=True, return_dict=False)
    assert ids == loaded.processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=True)[0]


def test_another_models_tokenizer_leaves_nothing(make_encoder, tmp_path):
    make_encoder().save_pretrained(tmp_path / "encoder")
    write_language_model(tmp_path / "llm", rows=200)
    with pytest.raises(CheckpointError, match="for which the model has no row"):
        initialize(tmp_path / "encoder", tmp_path / "llm", tmp_path / "ckpt")
    assert not (tmp_path / "ckpt").exists()


def test_folders_of_another_architecture(make_encoder, tmp_path):
    make_encoder().save_pretrained(tmp_path / "encoder")
    write_language_model(tmp_path / "llm")
    with pytest.raises(CheckpointError, match="no known vision encoder"):
        initialize(tmp_path / "llm", tmp_path / "llm", tmp_path / "ckpt")
    with pytest.raises(CheckpointError, match="of a family that cannot be exported"):
        initialize(tmp_path / "encoder", tmp_path / "encoder", tmp_path / "ckpt")


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_all_parts_are_of_one_dtype_and_end_at_im_end(make_encoder, tmp_path, dtype):
    make_encoder().half().save_pretrained(tmp_path / "encoder")
    write_language_model(tmp_path / "llm")
    initialize(tmp_path / "encoder", tmp_path / "llm", tmp_path / "ckpt", dtype=dtype)
    stored = load_file(tmp_path / "ckpt" / "model.safetensors")
    assert {tensor.dtype for tensor in stored.values()} == {dtype or torch.float32}  # None: the language model's
    loaded = checkpoint.load(tmp_path / "ckpt")
    end = loaded.processor.tokenizer.convert_tokens_to_ids("<|im_end|>")
    assert loaded.model.generation_config.eos_token_id == end


def test_a_language_model_that_lacks_a_tensor(make_encoder, tmp_path):
    make_encoder().save_pretrained(tmp_path / "encoder")
    write_language_model(tmp_path / "llm")
    path = tmp_path / "llm" / "model.safetensors"
    tensors = load_file(path)
    tensors.pop("model.norm.weight")
    save_file(tensors, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"are not those(.|\n)*model\.norm\.weight"):
        initialize(tmp_path / "encoder", tmp_path / "llm", tmp_path / "ckpt")
    assert not (tmp_path / "ckpt").exists()


def test_a_language_model_whose_weights_are_no_numbers(make_encoder, tmp_path):
    make_encoder("aimv2").save_pretrained(tmp_path / "encoder")
    write_language_model(tmp_path / "llm")
    path = tmp_path / "llm" / "model.safetensors"
    tensors = load_file(path)
    tensors["model.layers.1.mlp.up_proj.weight"][7, 3] = float("nan")
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(CheckpointError, match=r"llm' are not all(.|\n)*in model\.layers\.1\.mlp\.up_proj\.weight"):
        initialize(tmp_path / "encoder", tmp_path / "llm", tmp_path / "ckpt")
    assert not (tmp_path / "ckpt").exists()


def test_without_compression_only_the_projector_is_untrained(make_model):
    assert make_model(method=None).config.untrained == ["projector"]


def test_auto_classes_load_the_folder(make_encoder, tmp_path):
    from transformers import AutoModelForImageTextToText, AutoProcessor, AutoTokenizer

    from laco_export.models import LacoForConditionalGeneration, LacoProcessor

    make_encoder().save_pretrained(tmp_path / "encoder")
    write_language_model(tmp_path / "llm")
    initialize(tmp_path / "encoder", tmp_path / "llm", tmp_path / "ckpt")
    assert isinstance(AutoProcessor.from_pretrained(tmp_path / "ckpt"), LacoProcessor)
    assert isinstance(AutoModelForImageTextToText.from_pretrained(tmp_path / "ckpt"), LacoForConditionalGeneration)
    assert "<|image_pad|>" in AutoTokenizer.from_pretrained(tmp_path / "ckpt").get_vocab()


@pytest.mark.parametrize("depth", ["1/2", "1"])
def test_the_projector_starts_at_the_texts_scale(make_tiny_model, depth):
    model = make_tiny_model(at=depth)
    pictures = patterns(4, 3, 56, 56)
    with torch.no_grad():
        direction = model.get_image_features(pictures)
        before, text_rms = scale_projector(model)
        scaled = model.get_image_features(pictures)
    assert text_rms == pytest.approx(model.get_input_embeddings().weight.pow(2).mean().sqrt().item())
    assert scaled.pow(2).mean().sqrt().item() == pytest.approx(text_rms, rel=1e-5)
    torch.testing.assert_close(scaled * (before / text_rms), direction, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("depth", ["1/2", "1"])
def test_a_merge_begins_as_the_average_of_its_window(make_tiny_model, depth):
    """What later blocks see of it is the mean of four tokens; every depth of an elastic model starts so."""
    model = make_tiny_model(at=["1/2", "1"])
    model.set_depth(depth)
    average_merges(model)
    compressor = model.vision_model.compressors[f"block_{model.vision_model.block}"]
    grid = torch.randn(2, 4, 4, model.config.vision_config.hidden_size)
    with torch.no_grad():
        torch.testing.assert_close(compressor(grid), grid.unflatten(2, (2, 2)).unflatten(1, (2, 2)).mean((2, 4)))
    # It is trained all the same: the last layer by the first step, what is before it from then on.
    pixels = patterns(2, 3, 56, 56)
    model.get_image_features(pixels).square().sum().backward()
    assert compressor.mlp.linear_2.weight.grad.abs().max() > 0


@pytest.mark.parametrize("method", ["pixel_shuffle", "laco_misaligned", "average_pool", None])
def test_other_merges_cannot_begin_as_an_average(make_tiny_model, method):
    with pytest.raises(ConfigError, match="residual") as caught:
        average_merges(make_tiny_model(method=method))
    assert str(method) in caught.value.given


def test_patterns_vary_as_preprocessed_pictures_do():
    pixels = patterns(3, 3, 40, 60)
    assert pixels.shape == (3, 3, 40, 60)
    torch.testing.assert_close(pixels.std((1, 2, 3)), torch.ones(3))
    torch.testing.assert_close(pixels, patterns(3, 3, 40, 60), rtol=0, atol=0)
    assert not torch.equal(pixels[0], pixels[1])
