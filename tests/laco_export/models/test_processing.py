"""The processor inserts exactly as many image tokens as the model gives embeddings."""

import numpy as np
import pytest
import torch
from PIL import Image

from laco_export.errors import ConfigError, UsageError
from laco_export.models import LacoImageProcessor, LacoProcessor


@pytest.fixture
def processor(make_model):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<|im_end|>": 2, "<|image_pad|>": 7, "a": 8, "b": 9}
    backend = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", additional_special_tokens=["<|image_pad|>", "<|im_end|>"]
    )
    model = make_model()
    preprocessing = model.vision_model.spec.preprocessing(model.config.vision_config)
    image_processor = LacoImageProcessor(**preprocessing.to_dict())
    return LacoProcessor(image_processor, tokenizer, image_seq_length=model.tokens_per_image)


def picture(seed, size=(80, 60)):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8))


def test_tokens_and_features_agree(processor, make_model):
    batch = processor(
        images=[picture(0), picture(1, (30, 200)), picture(2)],
        text=["a <image> b <image>", "b", "<image> a"],
        padding=True,
        return_tensors="pt",
    )
    assert (batch["input_ids"] == 7).sum(1).tolist() == [8, 0, 4]
    assert batch["pixel_values"].shape == (3, 3, 56, 56)
    assert torch.isfinite(make_model()(**batch).logits).all()


@pytest.mark.parametrize(("images", "text"), [(1, "a"), (0, "a <image>"), (2, "<image>")])
def test_marks_and_pictures_must_agree(processor, images, text):
    with pytest.raises(UsageError, match="marks"):
        processor(images=[picture(0)] * images, text=text)


def test_save_and_load(processor, tmp_path):
    from transformers import AutoProcessor

    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    if not isinstance(loaded, LacoProcessor):  # AutoProcessor finds it through the model's config.json
        loaded = LacoProcessor.from_pretrained(tmp_path)
    expected, actual = (p(images=picture(3), text="a <image>", return_tensors="np") for p in (processor, loaded))
    for name in expected:
        np.testing.assert_array_equal(actual[name], expected[name])
    assert loaded.image_seq_length == 4


def test_a_tokenizer_without_the_image_token(processor):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    plain = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    with pytest.raises(ConfigError, match=r"<\|image_pad\|>"):
        LacoProcessor(processor.image_processor, plain, 4)
