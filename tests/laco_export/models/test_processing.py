"""As many image tokens as the model gives embeddings, at the right places: pictures, tiles and video frames."""

import random

import numpy as np
import pytest
import torch
from PIL import Image

from laco_export.conversation import question_turn, render
from laco_export.errors import ConfigError, UsageError
from laco_export.models import LacoForConditionalGeneration, LacoImageProcessor, LacoProcessor

TILING = {"tile": 56, "max_rows": 3, "max_columns": 3, "max_tiles": 4}
IMAGE = 7


def make_tokenizer(**names):
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {"<pad>": 0, "<|im_end|>": 2, "<|image_pad|>": IMAGE, "a": 8, "b": 9}
    backend = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    special = ["<|image_pad|>", "<|im_end|>"]
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", additional_special_tokens=special, **names
    )


@pytest.fixture
def processor(make_model):
    """Of a model that does not tile."""
    model = make_model()
    preprocessing = model.vision_model.spec.preprocessing(model.config.vision_config)
    image_processor = LacoImageProcessor(**preprocessing.to_dict())
    return LacoProcessor(image_processor, make_tokenizer(), image_seq_length=model.tokens_per_image)


@pytest.fixture
def tiled(make_encoder, make_model):
    """A model that tiles, of an odd 5 x 5 grid merged to 3 x 3, and its processor."""
    model = make_model(make_encoder(image_size=70), at="1/2", tiling={**TILING, "tile": 70}, video_pooling=2)
    return model, LacoProcessor.for_model(model, make_tokenizer())


def picture(width, height, seed=0):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8))


def test_tokens_and_features_agree(processor, make_model):
    batch = processor(
        images=[picture(60, 80, 0), picture(200, 30, 1), picture(60, 80, 2)],
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
        processor(images=[picture(60, 80, 0)] * images, text=text)


def test_a_processor_is_saved_and_loaded(processor, tmp_path):
    from transformers import AutoProcessor

    processor.save_pretrained(tmp_path)
    loaded = AutoProcessor.from_pretrained(tmp_path)
    if not isinstance(loaded, LacoProcessor):  # AutoProcessor finds it through the model's config.json
        loaded = LacoProcessor.from_pretrained(tmp_path)
    expected, actual = (
        p(images=picture(60, 80, 3), text="a <image>", return_tensors="np") for p in (processor, loaded)
    )
    for name in expected:
        np.testing.assert_array_equal(actual[name], expected[name])
    assert loaded.image_seq_length == 4


def test_a_tokenizer_without_the_image_token(processor):
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    plain = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, unk_token="a")))
    with pytest.raises(ConfigError, match=r"<\|image_pad\|>"):
        LacoProcessor(processor.image_processor, plain, 4)


@pytest.mark.parametrize("seed", range(20))
def test_tokens_equal_features_for_random_prompts(tiled, seed):
    """A few hundred pictures of random sizes, random numbers of pictures, and videos of random lengths."""
    model, processor = tiled
    rng = random.Random(seed)
    texts, images, videos = [], [], []
    for _ in range(4):
        count, frames = rng.choice([0, 1, 1, 1, 2, 5]), rng.choice([0, 0, 1, 7, 40])
        texts.append("a " + "<image> b " * count + ("<video> a" if frames else ""))
        images += [picture(rng.randint(1, 400), rng.randint(1, 400), seed) for _ in range(count)]
        if frames:
            videos.append([picture(30, 20)] * frames)
    batch = processor(images=images, videos=videos, text=texts, padding=True, return_tensors="pt")
    if "pixel_values" not in batch:
        return
    features = model.vision_model.merged_grid[0] * model.vision_model.merged_grid[1]
    packed = model.pack_image_features(torch.zeros(len(batch["pixel_values"]), features, 32), batch["image_sizes"])
    assert sum(len(image) for image in packed) == int((batch["input_ids"] == IMAGE).sum())


def test_one_picture_is_tiled_and_several_are_not(tiled):
    model, processor = tiled
    single = processor(images=[picture(140, 70)], text="<image> a", return_tensors="pt")
    assert single["pixel_values"].shape[0] == 3  # the base and 1 x 2
    assert single["image_sizes"].tolist() == [[70, 140]]
    assert int((single["input_ids"] == IMAGE).sum()) == 9 + 3 * (6 + 1)  # base, then 3 rows of 6 tokens and a newline
    several = processor(images=[picture(140, 70)] * 2, text="<image> a <image>", return_tensors="pt")
    assert several["pixel_values"].shape[0] == 2
    assert int((several["input_ids"] == IMAGE).sum()) == 18
    with torch.no_grad():
        assert torch.isfinite(model(**single).logits).all()
        assert model.generate(**single, max_new_tokens=3, do_sample=False).shape[1] > single["input_ids"].shape[1]


def test_the_embeddings_of_a_tiled_picture(tiled):
    """By hand: the base tile's nine, then each row over both tiles with the newline behind it."""
    model, processor = tiled
    batch = processor(images=[picture(140, 70)], text="<image>", return_tensors="pt")
    with torch.no_grad():
        features = model.get_image_features(batch["pixel_values"])  # [3, 9, 32]
        packed = model.pack_image_features(features, batch["image_sizes"])[0]
    rows = [features[0]]
    for row in range(3):
        rows += [features[tile][3 * row : 3 * row + 3] for tile in (1, 2)] + [model.image_newline[None]]
    torch.testing.assert_close(packed, torch.cat(rows))


def test_a_video_is_its_pooled_frames(tiled):
    model, processor = tiled
    frames = [picture(30, 20, seed) for seed in range(40)]
    batch = processor(videos=[frames], text="a <video> b", return_tensors="pt")
    assert batch["pixel_values"].shape[0] == 32
    assert int((batch["input_ids"] == IMAGE).sum()) == 32 * 4  # 3 x 3 pooled to 2 x 2
    assert batch["image_sizes"].tolist() == [[-1, -1]] * 32
    with torch.no_grad():
        features = model.get_image_features(batch["pixel_values"][:1])
        pooled = model.pack_image_features(features, batch["image_sizes"][:1])[0]
    grid = features.transpose(1, 2).unflatten(2, (3, 3))
    by_torch = torch.nn.functional.interpolate(grid, (2, 2), mode="bilinear").flatten(2).transpose(1, 2)[0]
    torch.testing.assert_close(pooled, by_torch)


def test_saved_and_loaded(tiled, tmp_path):
    model, processor = tiled
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = LacoForConditionalGeneration.from_pretrained(tmp_path).eval()
    batch = LacoProcessor.from_pretrained(tmp_path)(images=[picture(99, 310)], text="<image>", return_tensors="pt")
    with torch.no_grad():
        assert torch.equal(loaded(**batch).logits, model(**batch).logits)


def test_left_padded_batch_of_tiled_pictures(tiled):
    model, processor = tiled
    images, texts = [picture(200, 60, 1), picture(60, 90, 2)], ["a <image> b", "<image> b a a"]
    batch = processor(images=images, text=texts, padding=True, padding_side="left", return_tensors="pt")
    with torch.no_grad():
        together = model.generate(**batch, max_new_tokens=5, do_sample=False)
        for row, (image, text) in enumerate(zip(images, texts)):
            alone = processor(images=[image], text=text, return_tensors="pt")
            expected = model.generate(**alone, max_new_tokens=5, do_sample=False)[0, alone["input_ids"].shape[1] :]
            assert torch.equal(together[row, batch["input_ids"].shape[1] :][: len(expected)], expected)


@pytest.mark.parametrize(
    ("images", "videos", "text"), [(1, 0, "a"), (0, 0, "<image>"), (2, 0, "<image>"), (0, 1, "a"), (0, 0, "<video>")]
)
def test_marks_must_agree(tiled, images, videos, text):
    with pytest.raises(UsageError, match=r"the text marks \d (pictures|videos) and \d are given"):
        tiled[1](images=[picture(9, 9)] * images, videos=[[picture(9, 9)]] * videos, text=text)


def test_more_than_the_context_holds(tiled):
    model, processor = tiled
    processor.tokenizer.model_max_length = 100
    with pytest.raises(UsageError, match=r"128 tokens with its pictures(.|\n)*model_max_length: 100"):
        processor(videos=[[picture(9, 9)] * 32], text="<video>")
    processor.tokenizer.model_max_length = 10**9
    model.config.text_config.max_position_embeddings = 100
    batch = processor(videos=[[picture(9, 9)] * 32], text="<video>", return_tensors="pt")
    with pytest.raises(ConfigError, match=r"128 tokens, 128 of them of pictures(.|\n)*max_position_embeddings: 100"):
        model(**batch)


def test_features_and_sizes_must_agree(tiled):
    model, processor = tiled
    batch = processor(images=[picture(140, 70)], text="<image>", return_tensors="pt")
    with pytest.raises(ConfigError, match=r"pixel_values and image_sizes do not match"):
        model(**{**batch, "pixel_values": batch["pixel_values"][:2]})


def test_a_tile_that_is_not_the_encoders_input(make_model):
    with pytest.raises(ConfigError, match=r"tiling\.tile"):
        make_model(tiling={**TILING, "tile": 70})


def test_pictures_as_one_list_for_each_prompt(tiled):
    processor, images = tiled[1], [picture(30, 20, seed) for seed in range(3)]
    texts = ["<image>", "<image> a <image>"]
    nested, flat = (processor(images=i, text=texts, padding=True) for i in ([images[:1], images[1:]], images))
    np.testing.assert_array_equal(nested["pixel_values"], flat["pixel_values"])


@pytest.mark.parametrize("images", [["a.png"], [np.zeros((9, 9, 3), np.uint8)], "a.png"])
def test_what_is_no_picture_is_refused(tiled, images):
    with pytest.raises(UsageError, match=r"images holds(.|\n)*(str|ndarray)(.|\n)*PIL\.Image\.Image"):
        tiled[1](images=images, text="<image>")


def test_a_text_may_hold_any_character(tiled):
    assert len(tiled[1](text=["a \0 b", "b"])["input_ids"]) == 2


def test_a_chat_of_typed_parts(tiled):
    """What transformers' users pass: pictures and text as parts of a message."""
    processor, image = tiled[1], picture(140, 70)
    chat = [{"role": "user", "content": [{"type": "image", "image": image}, {"type": "text", "text": "a b"}]}]
    by_parts = processor.apply_chat_template(
        chat, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    turns = [question_turn("a b", 1)]
    by_text = processor(images=image, text=render(turns, add_generation_prompt=True), return_tensors="pt")
    for name in by_text:
        assert torch.equal(by_parts[name], by_text[name]), name


@pytest.mark.parametrize("first", ["<|im_start|>", "<s>", None])
def test_the_usual_call_of_a_chat(processor, first):
    """SmolLM2 names ``<|im_start|>``, with which each prompt begins, as its first token: it must not come twice."""
    tokenizer = make_tokenizer(bos_token=first)
    if first:  # as the Llama family's post-processor does
        from tokenizers.processors import TemplateProcessing

        begin = (first, tokenizer.bos_token_id)
        tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=f"{first} $A", special_tokens=[begin])
    named = LacoProcessor(processor.image_processor, tokenizer, image_seq_length=processor.image_seq_length)
    chat = [{"role": "user", "content": [{"type": "image", "image": picture(60, 80)}, {"type": "text", "text": "a b"}]}]
    batch = named.apply_chat_template(
        chat, add_generation_prompt=True, tokenize=True, return_dict=True, return_tensors="pt"
    )
    prompt = named(images=picture(60, 80), text=render([question_turn("a b", 1)], add_generation_prompt=True))
    assert batch["input_ids"].tolist() == prompt["input_ids"]
    assert (batch["input_ids"] == IMAGE).sum() == 4
    if first == "<|im_start|>":
        assert batch["input_ids"][0].tolist().count(tokenizer.bos_token_id) == 3  # a system, a user, an assistant
    whole = named(text="a", add_special_tokens=True)["input_ids"][0]
    assert whole == ([tokenizer.bos_token_id, 8] if first else [8])


def test_a_chat_of_text_alone_is_tokenised(processor):
    """transformers looks for pictures in each message's parts, and fails where a message is a string."""
    chat = [{"role": "system", "content": "b"}, {"role": "user", "content": "a b"}]
    options = {"add_generation_prompt": True, "tokenize": True, "return_dict": True}
    expected = processor(text=render([("system", "b"), ("user", "a b")], add_generation_prompt=True))["input_ids"]
    assert processor.apply_chat_template(chat, **options)["input_ids"] == expected
    assert processor.apply_chat_template([chat, chat], **options)["input_ids"] == expected * 2
    assert processor.apply_chat_template(chat, tokenize=False) == render([("system", "b"), ("user", "a b")])
    assert chat[1]["content"] == "a b"
