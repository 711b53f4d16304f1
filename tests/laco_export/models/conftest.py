import pytest
import torch


def _encoder(name, **changes):
    from transformers import (
        Aimv2VisionConfig,
        Aimv2VisionModel,
        CLIPVisionConfig,
        CLIPVisionModel,
        InternVLVisionConfig,
        InternVLVisionModel,
        SiglipVisionConfig,
        SiglipVisionModel,
    )

    size = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 4, "num_attention_heads": 4}
    size |= {"image_size": 56, "patch_size": 14} | changes
    if name == "aimv2":
        return Aimv2VisionModel(Aimv2VisionConfig(use_head=False, **size))
    if name == "clip":
        return CLIPVisionModel(CLIPVisionConfig(**size))
    if name == "siglip":
        return SiglipVisionModel(SiglipVisionConfig(vision_use_head=False, **size))
    image, patch = size.pop("image_size"), size.pop("patch_size")
    config = InternVLVisionConfig(
        image_size=(image, image),
        patch_size=(patch, patch),
        **{"attention_bias": True, "use_mean_pooling": False, **size},
    )
    model = InternVLVisionModel(config)
    torch.nn.init.normal_(model.embeddings.cls_token)
    torch.nn.init.normal_(model.embeddings.position_embeddings)
    return model


@pytest.fixture
def make_encoder():
    """``make_encoder(name, **config)``: a transformers vision model of tiny size with random weights."""

    def make(name="aimv2", seed=0, **changes):
        torch.manual_seed(seed)
        return _encoder(name, **changes).eval()

    return make


@pytest.fixture
def make_model(make_encoder):
    """``make_model(encoder=…, **from_parts options)``: a LaCo model of tiny size with random weights."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from laco_export.models import LacoForConditionalGeneration

    def make(encoder=None, *, tie=True, **options):
        encoder = encoder if encoder is not None else make_encoder()
        torch.manual_seed(1)
        config = Qwen2Config(
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            vocab_size=100,
            tie_word_embeddings=tie,
            bos_token_id=None,
            eos_token_id=2,
            pad_token_id=0,
        )
        llm = Qwen2ForCausalLM(config)
        return LacoForConditionalGeneration.from_parts(encoder, llm, image_token_id=7, **options).eval()

    return make


@pytest.fixture(scope="session")
def prompt():
    """``prompt(images, length, seed)``: ``input_ids [1, T]`` with four image tokens (7) a picture, the pixels."""

    def make(images, length=12, seed=0):
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(10, 100, (1, length + 4 * images), generator=generator)
        for index in range(images):
            ids[0, 2 + 5 * index : 6 + 5 * index] = 7
        pixels = torch.randn(images, 3, 56, 56, generator=generator)
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)} | ({"pixel_values": pixels} if images else {})

    return make


@pytest.fixture(scope="session")
def greedy():
    """``greedy(model, inputs, **options)``: what ``generate`` gives in eight tokens without sampling."""

    def generate(model, inputs, **options):
        with torch.no_grad():
            return model.generate(**inputs, max_new_tokens=8, do_sample=False, **options)

    return generate
