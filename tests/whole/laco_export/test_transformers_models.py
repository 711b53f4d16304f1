"""The whole model with compression off is that of transformers: LLaVA's and InternVL's class over each encoder and
language model, and LLaVA-OneVision's for a picture in tiles.

The classes share the encoder's and the language model's code with ours, and nothing between them: which block's output
is taken, the projector, the order of the tokens, where they stand in the prompt.
"""

import numpy as np
import pytest
import torch
from PIL import Image

from laco_export.conversation import question_turn, render
from laco_export.models import LacoForConditionalGeneration, LacoProcessor

from ...conftest import tiny_encoder, tiny_tokenizer

FAMILIES = ("qwen2", "qwen3", "llama")


def language_model(family):
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen2Config, Qwen2ForCausalLM, Qwen3Config, Qwen3ForCausalLM

    sizes = {
        "hidden_size": 48,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 3,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "vocab_size": 264,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": family != "llama",
        "initializer_range": 0.2,  # ten times the usual, so that pictures sway the answers
        "bos_token_id": None,
        "eos_token_id": None,
        "pad_token_id": 0,
    }
    config, model = {
        "qwen2": (Qwen2Config, Qwen2ForCausalLM),
        "qwen3": (Qwen3Config, Qwen3ForCausalLM),
        "llama": (LlamaConfig, LlamaForCausalLM),
    }[family]
    return model(config(**sizes))


def ours(encoder, family, **options):
    torch.manual_seed(0)
    tokenizer = tiny_tokenizer()
    model = LacoForConditionalGeneration.from_parts(
        tiny_encoder(encoder),
        language_model(family),
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        method=None,
        **options,
    )
    for layer in (model.projector.linear_1, model.projector.linear_2):
        torch.nn.init.normal_(layer.weight, std=0.5)
    return model.eval(), LacoProcessor.for_model(model, tokenizer)


def with_our_weights(theirs, model):
    """transformers' model with the weights of ``model``, part by part."""
    tower, encoder = theirs.model.vision_tower, model.vision_model.encoder
    levels = hasattr(encoder, "vision_model") and not hasattr(tower, "vision_model")  # as in transformers 5
    tower.load_state_dict((encoder.vision_model if levels else encoder).state_dict())
    theirs.model.multi_modal_projector.load_state_dict(model.projector.state_dict())
    theirs.model.language_model.load_state_dict(model.language_model.model.state_dict())
    theirs.lm_head.load_state_dict(model.language_model.lm_head.state_dict())
    return theirs.eval()


def prompt(processor, pictures):
    text = render([question_turn("what is it?", len(pictures))], add_generation_prompt=True)
    return processor(images=pictures or None, text=text, return_tensors="pt")


def pictures_of(*sizes):
    values = np.random.default_rng(0)
    small = [values.integers(0, 256, (4, 4, 3), dtype=np.uint8) for _ in sizes]
    return [Image.fromarray(pixels).resize(size) for pixels, size in zip(small, sizes)]


def assert_the_same(model, theirs, inputs, their_pictures):
    """Logits at every position, and eight greedy tokens."""
    text = {name: inputs[name] for name in ("input_ids", "attention_mask")}
    options = {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 0}
    with torch.no_grad():
        expected = theirs(**text, **their_pictures).logits
        torch.testing.assert_close(model(**inputs).logits, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))
        answers = theirs.generate(**text, **their_pictures, **options), model.generate(**inputs, **options)
    assert answers[0].tolist() == answers[1].tolist()


def assert_the_same_about_pictures(model, theirs, processor):
    """Without a picture, about one, and about two, which the model tells apart."""
    for pictures in (pictures_of(), pictures_of((80, 60)), pictures_of((56, 56), (40, 90))):
        inputs = prompt(processor, pictures)
        given = {"pixel_values": inputs["pixel_values"]} if pictures else {}
        assert_the_same(model, theirs, inputs, given)
    exchanged = {**inputs, "pixel_values": inputs["pixel_values"].flip(0)}
    with torch.no_grad():
        assert not torch.allclose(model(**inputs).logits, model(**exchanged).logits, rtol=0.1, atol=0.1)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("encoder", ["aimv2", "siglip", "clip"])
def test_llava(encoder, family):
    from transformers import LlavaConfig, LlavaForConditionalGeneration

    model, processor = ours(encoder, family, feature_layer=-2)
    config = LlavaConfig(
        vision_config=model.config.vision_config,
        text_config=model.config.text_config,
        image_token_index=model.config.image_token_id,
        vision_feature_layer=-2,
        vision_feature_select_strategy="default" if encoder == "clip" else "full",  # default leaves out CLS
    )
    theirs = with_our_weights(LlavaForConditionalGeneration(config), model)
    assert_the_same_about_pictures(model, theirs, processor)


@pytest.mark.parametrize("family", FAMILIES)
def test_internvl(family):
    """Without its pixel shuffle; its projector's norm, which ours has not, is taken out."""
    from transformers import InternVLConfig, InternVLForConditionalGeneration

    model, processor = ours("internvit", family)
    config = InternVLConfig(
        tie_word_embeddings=False,
        vision_config=model.config.vision_config,
        text_config=model.config.text_config,
        image_token_id=model.config.image_token_id,
        downsample_ratio=1.0,
    )
    theirs = InternVLForConditionalGeneration(config)
    theirs.model.multi_modal_projector.layer_norm = torch.nn.Identity()
    assert_the_same_about_pictures(model, with_our_weights(theirs, model), processor)


@pytest.mark.parametrize("size", [(200, 60), (50, 170), (300, 290), (56, 56), (170, 112)])
def test_llava_onevision_in_tiles(size):
    from transformers import LlavaOnevisionConfig, LlavaOnevisionForConditionalGeneration, LlavaOnevisionImageProcessor

    tiling = {"tile": 56, "max_rows": 3, "max_columns": 3, "max_tiles": 4}
    model, processor = ours("siglip", "qwen2", feature_layer=-1, tiling=tiling)
    pinpoints = [[56 * row, 56 * column] for row in (1, 2, 3) for column in (1, 2, 3)]
    config = LlavaOnevisionConfig(
        vision_config=model.config.vision_config,
        text_config=model.config.text_config,
        image_token_index=model.config.image_token_id,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
        vision_aspect_ratio="anyres_max_4",
        image_grid_pinpoints=pinpoints,
    )
    theirs = with_our_weights(LlavaOnevisionForConditionalGeneration(config), model)
    theirs.model.image_newline.data.copy_(model.image_newline.data)
    (picture,) = pictures_of(size)
    preprocessing = processor.image_processor.preprocessing
    prepared = LlavaOnevisionImageProcessor(
        size={"height": 56, "width": 56},
        image_grid_pinpoints=pinpoints,
        image_mean=preprocessing.mean,
        image_std=preprocessing.std,
    )(picture, return_tensors="pt")
    given = {name: prepared[name] for name in ("pixel_values", "image_sizes")}
    assert_the_same(model, theirs, prompt(processor, [picture]), given)
