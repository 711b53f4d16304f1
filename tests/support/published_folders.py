"""Folders of published families, written by transformers' own classes at small sizes, and their processors.

Every parameter is drawn anew, norms and biases too: as transformers starts them, a lost bias or a wrong permutation
would not show.
"""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from chat_formats import TEMPLATES, named_tokens, sentence_piece, sentence_piece_of_old
from PIL import Image
from safetensors.torch import load_file, save_file

TILE = {"llava": 56, "llava_next": 56, "llava_onevision": 70, "internvl": 56}
"""Side of the encoder's input: 4 x 4 tokens, and an odd 5 x 5."""
PINPOINTS = {
    "llava_next": [[56, 112], [112, 56], [112, 112], [168, 56], [56, 168]],
    "llava_onevision": [[70 * rows, 70 * columns] for rows in (1, 2, 3) for columns in (1, 2, 3)],
}
FAMILIES = tuple(TILE)
TAKES_VIDEOS = ("llava_onevision", "internvl")

_TEXT = {"hidden_size": 48, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 3}
_TEXT |= {"num_key_value_heads": 1, "head_dim": 16, "max_position_embeddings": 2048, "bos_token_id": None}
_VISION = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4}


@dataclass
class Published:
    """A folder, and what transformers makes of it.

    Attributes:
        model: transformers' class, FP32, in evaluation mode.
        processor: transformers' own for it.
        image_id, video_id: the tokens that stand for a picture's and a video's embeddings.
    """

    family: str
    folder: Path
    model: torch.nn.Module
    processor: object
    image_id: int
    video_id: int | None


def published(family: str, folder: Path) -> Published:
    """Write a folder of ``family``."""
    torch.manual_seed(0)
    tokenizer = tokenizer_of(family)
    image_token = "<IMG_CONTEXT>" if family == "internvl" else "<image>"
    image_id, video_id = tokenizer.convert_tokens_to_ids([image_token, "<video>"])
    rows = len(tokenizer) + 30  # a padded vocabulary
    model = _model(family, rows, image_id, video_id, tokenizer.eos_token_id)
    draw_parameters(model)
    model.save_pretrained(folder)
    images = image_processor(family)
    images.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    template = TEMPLATES["llava-1.5" if family in ("llava", "llava_next") else family.replace("_", "-")]
    (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    return Published(family, folder, model, _processor(family, images, tokenizer), image_id, video_id)


def tokenizer_of(family: str):
    """A tokenizer with the family's special tokens: of Vicuna's kinds, else of bytes."""
    if family in ("llava", "llava_next"):
        make = sentence_piece_of_old if family == "llava" else sentence_piece
        return make("<s>", "</s>", "<image>", "<pad>", around="<s> $A")
    special = ["<|im_start|>", "<image>", "<video>"]
    if family == "llava_onevision":
        return named_tokens(None, "<|im_end|>", *special)
    tokenizer = named_tokens(None, "<|im_end|>", *special, "<img>", "</img>", "<IMG_CONTEXT>")
    names = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    names["video_token"] = "<video>"
    return type(tokenizer)(
        tokenizer_object=tokenizer.backend_tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
        extra_special_tokens=names,
        clean_up_tokenization_spaces=False,
    )


def _model(family, vocab_size, image_id, video_id, eos_id):
    import transformers as t

    text = {**_TEXT, "vocab_size": vocab_size, "eos_token_id": eos_id, "pad_token_id": eos_id}
    side = {**_VISION, "image_size": TILE[family], "patch_size": 14}
    if family == "internvl":
        vision = t.InternVLVisionConfig(**side, attention_bias=True, use_mean_pooling=True)
        parts = {"vision_config": vision, "text_config": t.Qwen2Config(**text)}
        parts["tie_word_embeddings"] = False  # 5 ties where nothing is said
        config = t.InternVLConfig(**parts, image_token_id=image_id, image_seq_length=4)
        return t.InternVLForConditionalGeneration(config).eval()
    if family == "llava_onevision":
        config = t.LlavaOnevisionConfig(
            vision_config=t.SiglipVisionConfig(**side, vision_use_head=False),
            text_config=t.Qwen2Config(**text, tie_word_embeddings=True),
            image_token_index=image_id,
            video_token_index=video_id,
            vision_aspect_ratio="anyres_max_4",
            image_grid_pinpoints=PINPOINTS[family],
            tie_word_embeddings=True,
        )
        return t.LlavaOnevisionForConditionalGeneration(config).eval()
    parts = {"vision_config": t.CLIPVisionConfig(**side), "text_config": t.LlamaConfig(**text)}
    if family == "llava":
        return t.LlavaForConditionalGeneration(t.LlavaConfig(**parts, image_token_index=image_id)).eval()
    config = t.LlavaNextConfig(**parts, image_token_index=image_id, image_grid_pinpoints=PINPOINTS[family])
    return t.LlavaNextForConditionalGeneration(config).eval()


def draw_parameters(model) -> None:
    """Weights so large that pictures sway the logits, norms around one, biases around zero."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise / parameter.shape[-1] ** 0.5 if "embed" not in name else noise / 2)
            else:
                one = ("norm" in name and name.endswith("weight")) or "lambda" in name
                parameter.copy_(one + 0.3 * noise)


def image_processor(family: str):
    import transformers as t

    side, exact = TILE[family], {"height": TILE[family], "width": TILE[family]}
    if family == "internvl":
        mean, std = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
        return t.GotOcr2ImageProcessor(
            size=exact, crop_to_patches=True, min_patches=1, max_patches=6, image_mean=mean, image_std=std
        )
    if family == "llava_onevision":
        half = [0.5, 0.5, 0.5]
        return t.LlavaOnevisionImageProcessor(
            size=exact, image_grid_pinpoints=PINPOINTS[family], image_mean=half, image_std=half
        )
    if family == "llava":
        return t.CLIPImageProcessor(size={"shortest_edge": side}, crop_size=exact)
    return t.LlavaNextImageProcessor(
        size={"shortest_edge": side}, crop_size=exact, image_grid_pinpoints=PINPOINTS[family]
    )


class Frames:
    """transformers' video processors need torchvision, which is not among the tested packages: each frame is prepared
    by transformers' processor for a picture of one tile."""

    model_input_names = ["pixel_values_videos"]

    def __init__(self, images):
        from transformers import SiglipImageProcessor

        self._frame = SiglipImageProcessor(size=images.size, image_mean=images.image_mean, image_std=images.image_std)

    def __call__(self, videos, **_):
        values = [self._frame(list(frames), return_tensors="pt")["pixel_values"] for frames in videos]
        return {"pixel_values_videos": torch.stack(values)}


def _processor(family, images, tokenizer):
    import transformers as t

    if family in ("llava", "llava_next"):
        processor = t.LlavaProcessor if family == "llava" else t.LlavaNextProcessor
        return processor(
            images, tokenizer, patch_size=14, vision_feature_select_strategy="default", num_additional_image_tokens=1
        )

    base = t.LlavaOnevisionProcessor if family == "llava_onevision" else t.InternVLProcessor

    class Processor(base):
        def check_argument_for_proper_class(self, name, argument):
            return None if name == "video_processor" else super().check_argument_for_proper_class(name, argument)

    if family == "llava_onevision":
        options = {"vision_feature_select_strategy": "full", "vision_aspect_ratio": "anyres_max_4"}
        return Processor(images, tokenizer, Frames(images), num_image_tokens=25, **options)
    return Processor(images, tokenizer, Frames(images), image_seq_length=4)


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Coarse noise, so that no two tiles are alike and resizing keeps it."""
    values = np.random.default_rng(seed).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(values).resize((width, height), Image.Resampling.NEAREST)


def rename_tensors(folder: Path, rename) -> None:
    """Store the tensors of a folder under other names: ``rename(name, tensor) -> {name: tensor}``."""
    path = folder / "model.safetensors"
    renamed = {}
    for name, tensor in load_file(path).items():
        renamed.update(rename(name, tensor))
    save_file({name: tensor.contiguous() for name, tensor in renamed.items()}, path, {"format": "pt"})


def change_json(path: Path, **changes) -> None:
    """Change fields of a JSON file; None takes one out."""
    values = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    path.write_text(json.dumps({k: v for k, v in values.items() if v is not None}), encoding="utf-8")
