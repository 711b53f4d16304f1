"""Time and peak memory of importing published folders at their full shape, random weights in bfloat16.

    python benchmarks/import_published.py [--folder DIR]

Writes the folders of LLaVA-OneVision-0.5B and of InternVL3-1B by transformers' classes, then imports each in processes
of its own: as it is, and with a merge at 1/2. States the peak resident memory over what the same modules of Python
take, as a multiple of the folder's weights, and the time beside that of reading the weights once. Last, the logits of
both classes in FP32, for text alone and a picture (LLaVA-OneVision's is two tiles).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results" / "import_published.json"
DEPTHS = ([], ["1/2"])


def write_llava_onevision(folder: Path) -> None:
    """llava-onevision-qwen2-0.5b-ov-hf's shape: SigLIP so400m/14-384 with 26 blocks, Qwen2-0.5B, tied."""
    import transformers as t

    vision = t.SiglipVisionConfig(
        hidden_size=1152,
        intermediate_size=4304,
        num_hidden_layers=26,
        num_attention_heads=16,
        image_size=384,
        patch_size=14,
        vision_use_head=False,
    )
    text = t.Qwen2Config(**_QWEN_0_5B, vocab_size=152_000, tie_word_embeddings=True)
    config = t.LlavaOnevisionConfig(vision_config=vision, text_config=text, tie_word_embeddings=True)
    images = t.LlavaOnevisionImageProcessor(image_mean=[0.5] * 3, image_std=[0.5] * 3)
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>"]
    _write(folder, t.LlavaOnevisionForConditionalGeneration(config), images, 151_643, special)


def write_internvl3(folder: Path) -> None:
    """InternVL3-1B-hf's shape: InternViT-300M-448, Qwen2.5-0.5B with rows of its own."""
    import transformers as t

    text = t.Qwen2Config(**_QWEN_0_5B, vocab_size=151_674, tie_word_embeddings=False)
    vision = t.InternVLVisionConfig(attention_bias=True)
    config = t.InternVLConfig(vision_config=vision, text_config=text, tie_word_embeddings=False)
    exact = {"height": 448, "width": 448}
    images = t.GotOcr2ImageProcessor(size=exact, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225])
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>"]
    _write(folder, t.InternVLForConditionalGeneration(config), images, 151_664, special)


FOLDERS = {"LLaVA-OneVision-0.5B": write_llava_onevision, "InternVL3-1B": write_internvl3}
_QWEN_0_5B = {
    **{"hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, "num_attention_heads": 14},
    **{"num_key_value_heads": 2, "max_position_embeddings": 32_768, "rope_theta": 1_000_000.0},
}
_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% for part in m.content if part.type == 'image' %}{{ 'IMAGE\n' }}{% endfor %}"
    "{% for part in m.content if part.type == 'text' %}{{ part.text }}{% endfor %}"
    "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def _write(folder: Path, model, images, words: int, special: list[str]) -> None:
    """The files of a published folder, with a tokenizer of as many tokens as the model's has."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    rows = [*alphabet, *(f"w{index}" for index in range(words - len(alphabet)))]
    tokenizer = Tokenizer(models.BPE(vocab={token: index for index, token in enumerate(rows)}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    image_token = "<IMG_CONTEXT>" if "<IMG_CONTEXT>" in special else "<image>"
    image_id = fast.convert_tokens_to_ids(image_token)
    model.config.image_token_id = image_id
    model.generation_config.eos_token_id = fast.eos_token_id
    model.save_pretrained(folder)
    images.save_pretrained(folder)
    fast.save_pretrained(folder)
    (folder / "chat_template.jinja").write_text(_TEMPLATE.replace("IMAGE", image_token), encoding="utf-8")


def import_folder(folder: Path, output: Path, at: list[str]) -> dict:
    """In a process of its own: Python's imports, then the folder's."""
    from laco_export import weight_files
    from laco_export.machine import peak_memory
    from laco_export.models.published import import_published

    before = peak_memory()
    files = weight_files.find(folder)
    size = sum(path.stat().st_size for path in files)
    start = time.perf_counter()
    for path in files:
        with open(path, "rb") as file:
            while file.read(1 << 24):
                pass
    read_s = time.perf_counter() - start
    start, cpu = time.perf_counter(), time.process_time()
    import_published(folder, output, at=at)
    return {
        "at": at,
        "weights_mib": size / 2**20,
        "peak_over_imports_mib": (peak_memory() - before) / 2**20,
        "peak_over_imports_per_weights": (peak_memory() - before) / size,
        "read_s": read_s,
        "import_s": time.perf_counter() - start,
        "import_cpu_s": time.process_time() - cpu,
    }


def compare(folder: Path) -> dict:
    """In a process of its own: the largest difference of two logits, and the largest logit, by kind of prompt."""
    import numpy as np
    import torch
    from PIL import Image
    from transformers import AutoModelForImageTextToText

    from laco_export.conversation import question_turn, render
    from laco_export.models.published import read_published

    theirs = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
    ours, processor, _ = read_published(folder, dtype=torch.float32)
    noise = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    differences = {}
    for name, sizes in (("text alone", ()), ("a picture", ((380, 360),))):
        pictures = [Image.fromarray(noise).resize(size) for size in sizes]
        question = question_turn("What is this?", len(pictures))
        text = render([question], add_generation_prompt=True, chat_format=processor.chat_format)
        inputs = processor(images=pictures or None, text=text, return_tensors="pt")
        their_inputs = dict(inputs)
        if pictures and theirs.config.model_type == "llava_onevision":
            their_inputs["pixel_values"] = inputs["pixel_values"][None]  # [1, tiles, 3, H, W]
        with torch.no_grad():
            expected, logits = theirs(**their_inputs).logits, ours(**inputs).logits
        differences[name] = {
            "tiles": len(inputs["pixel_values"]) if pictures else 0,
            "tokens": inputs["input_ids"].shape[1],
            "max_abs": float((logits - expected).abs().max()),
            "largest": float(expected.abs().max()),
        }
    return differences


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, help="keep the folders here; default: a temporary one")
    parser.add_argument("--import-from", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--at", nargs="*", default=[], help=argparse.SUPPRESS)
    parser.add_argument("--write", choices=FOLDERS, help=argparse.SUPPRESS)
    parser.add_argument("--compare", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.write:
        import torch

        torch.set_default_dtype(torch.bfloat16)
        FOLDERS[arguments.write](arguments.folder)
        return 0
    if arguments.compare:
        print(json.dumps(compare(arguments.compare)))
        return 0
    with tempfile.TemporaryDirectory() as temporary:
        if arguments.import_from:
            output = Path(temporary) / "checkpoint"
            print(json.dumps(import_folder(arguments.import_from, output, arguments.at)))
            return 0
        return _measure(arguments.folder or Path(temporary))


def _measure(folder: Path) -> int:
    from measured_on import measured_on

    measured = measured_on("torch", "transformers", "safetensors")
    for name in FOLDERS:
        place = folder / name
        if not place.exists():
            subprocess.run([sys.executable, __file__, "--write", name, "--folder", str(place)], check=True)
        imports = [_in_a_process("--import-from", str(place), "--at", *at) for at in DEPTHS]
        measured[name] = {"imports": imports, "logits": _in_a_process("--compare", str(place))}
        print(json.dumps({name: measured[name]}, indent=1))
    RESULTS.write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    return 0


def _in_a_process(*arguments: str) -> dict:
    command = [sys.executable, __file__, *arguments]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])


if __name__ == "__main__":
    sys.exit(main())
