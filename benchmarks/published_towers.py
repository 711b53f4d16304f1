"""Vision towers of the published sizes with random weights, for the benchmarks: speed carries over, answers do not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from published_sizes import qwen2_5_0_5b_config, vision_config

from laco_export.exporter.tower import VisionTower
from laco_export.models import LacoConfig, LacoForConditionalGeneration, LacoImageProcessor, LacoProcessor, checkpoint

ENCODERS = {
    "aimv2": "aimv2-large-patch14-336",
    "siglip": "siglip-so400m-patch14-384",
    "internvit": "internvit-300m-448px",
    "clip": "clip-vit-large-patch14-336",
}
DEPTHS = ("1", "1/2", "1/4", "1/6", "1/12")


def published_config(encoder: str, depth: str | Sequence[str], method: str = "laco") -> LacoConfig:
    """``encoder`` by its short name, merged by ``method`` at ``depth`` (or at several), in front of Qwen2.5-0.5B's
    width."""
    text = qwen2_5_0_5b_config()
    text.num_hidden_layers = text.vocab_size = 1  # the language model is not measured here
    text.layer_types = text.layer_types[:1]
    compression = {"method": method, "depths": [depth] if isinstance(depth, str) else list(depth)}
    return LacoConfig(vision_config(ENCODERS[encoder]), text, compression)


def published_tower(encoder: str, depth: str) -> VisionTower:
    """The tower that the exporter traces: encoder, merge, projector; the same weights on every call."""
    torch.manual_seed(0)
    return VisionTower(LacoForConditionalGeneration(published_config(encoder, depth)).eval()).eval()


def pixel_shape(tower: VisionTower) -> tuple[int, ...]:
    vision = tower.vision_model
    return (1, 3, *vision.spec.image_size(vision.encoder.config))


IMAGE_TOKEN = "<|image_pad|>"


def byte_tokenizer():
    """Single bytes and ChatML's special tokens: 260 tokens, and prompts three to four times as long as real ones."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import Qwen2TokenizerFast

    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", IMAGE_TOKEN]
    letters = {letter: index for index, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    words = Tokenizer(models.BPE(vocab=letters, merges=[]))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.add_special_tokens(special)
    return Qwen2TokenizerFast(tokenizer_object=words, eos_token=special[2], pad_token=special[0])


_OUTLIER_BLOCK, _LARGEST_WEIGHT = 6, 6e4  # the weight fits into half, what it makes does not


def write_checkpoint(
    encoder: str, depth: str | Sequence[str], folder: Path, method: str = "laco", *, outliers: bool = False
) -> None:
    """The same vision tower as a checkpoint, with a small language model and a tokenizer of single bytes.

    Args:
        depth: of the merge; of several the checkpoint is elastic.
        outliers: let one block of AIMv2 write values beyond 65504 into the residual stream.
    """
    tokenizer = byte_tokenizer()
    torch.manual_seed(0)
    config = published_config(encoder, depth, method)
    config.text_config.vocab_size = len(tokenizer)
    config.image_token_id = tokenizer.convert_tokens_to_ids(IMAGE_TOKEN)
    model = LacoForConditionalGeneration(config).eval()
    if outliers:
        down = model.vision_model.encoder.encoder.layers[_OUTLIER_BLOCK].ffn.down_proj.weight
        with torch.no_grad():
            down.mul_(_LARGEST_WEIGHT / down.abs().max())
    preprocessing = model.vision_model.spec.preprocessing(config.vision_config)
    processor = LacoProcessor(
        image_processor=LacoImageProcessor(**preprocessing.to_dict()),
        tokenizer=tokenizer,
        image_seq_length=model.tokens_per_image,
    )
    checkpoint.save(model, processor, folder)
