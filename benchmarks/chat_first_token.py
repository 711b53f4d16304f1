"""Time to first token over a ten-turn chat about one picture (AIMv2-L/336 @1/2 + Qwen2.5-0.5B's shape, random weights).

    python benchmarks/chat_first_token.py make --folder DIR [--llm fp32]
    python benchmarks/chat_first_token.py measure --folder DIR [--llm fp32] [--rounds 5]

``make`` writes a checkpoint with a byte-level tokenizer (a letter of a question is a token, so its turns are longer
than with Qwen2.5's own) and exports it. ``measure`` warms up with one conversation, then lets each round ask ten
questions about a new picture, and one of them again with everything forgotten, so that the two are interleaved.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).resolve().parent / "results" / "chat_first_token.json"
TURNS, NEW_TOKENS = 10, 16
STEPS = ("preprocess_ms", "encode_ms", "prefill_ms", "first_token_ms")


def tokenizer():
    """256 bytes without merges, and Qwen2.5's special tokens at Qwen2.5's places."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import Qwen2TokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    filler = {f"<unused{index}>": index for index in range(len(alphabet), 151643)}
    vocabulary = {letter: index for index, letter in enumerate(alphabet)} | filler
    made = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    made.pre_tokenizer, made.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    names = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>"]
    special = [AddedToken(name, special=True, normalized=False) for name in (*names, "<|image_pad|>", "<|video_pad|>")]
    made.add_special_tokens(special)
    return Qwen2TokenizerFast(tokenizer_object=made, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def make(folder: Path, llm: str) -> None:
    import torch
    from published_sizes import qwen2_5_0_5b_config, vision_config
    from transformers import Qwen2ForCausalLM

    from laco_export.exporter.options import ExportOptions
    from laco_export.exporter.pipeline import export_bundle
    from laco_export.models import LacoForConditionalGeneration, LacoProcessor, checkpoint
    from laco_export.models.encoders import encoder_spec

    if not (folder / "checkpoint").exists():
        torch.manual_seed(0)
        config = vision_config("aimv2-large-patch14-336")
        encoder = encoder_spec(config.model_type).model_class()(config)
        words = tokenizer()
        image_token_id = words.convert_tokens_to_ids("<|image_pad|>")
        model = LacoForConditionalGeneration.from_parts(
            encoder, Qwen2ForCausalLM(qwen2_5_0_5b_config()), image_token_id=image_token_id, at="1/2"
        )
        checkpoint.save(model.eval(), LacoProcessor.for_model(model, words), folder / "checkpoint")
        del model, encoder
    first = folder / "bundle-fp32"
    if not first.exists():
        export_bundle(ExportOptions(folder / "checkpoint", target="ort-cpu", output=first, compile=False))
    if llm != "fp32":
        with_decoder(first, folder, llm)


def with_decoder(first: Path, folder: Path, llm: str) -> None:
    """The same bundle with its decoder in another precision; the vision graph's files are shared, not copied."""
    import os
    import shutil
    from dataclasses import replace

    from laco_export.bundle import open_bundle, write_manifest
    from laco_export.exporter.decoder import export_decoder
    from laco_export.models import checkpoint

    output, entry = folder / f"bundle-{llm}", open_bundle(first).manifest.decoder
    shutil.copytree(first, output, copy_function=os.link, ignore=shutil.ignore_patterns("llm", "laco.json"))
    model = checkpoint.load(folder / "checkpoint").model
    decoder = export_decoder(
        model.language_model,
        image_token_id=entry.image_token_id,
        eos_token_ids=entry.eos_token_ids,
        output_folder=output,
        precision=llm,
        generation_config=model.generation_config,
    )
    write_manifest(output, replace(open_bundle(first).manifest, decoder=decoder))


def picture(seed: int):
    import numpy as np
    from PIL import Image

    pixels = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return Image.fromarray(pixels).resize((640, 480), Image.Resampling.BICUBIC)


def conversation(answerer, seed: int) -> tuple[list[dict], dict]:
    """Ten turns about a picture, and the second again with the KV caches and the encoded picture forgotten."""
    from laco_engines.chat import Chat
    from laco_engines.generation.options import GenerationOptions
    from laco_engines.picture_encoder import PictureEncoder

    options = GenerationOptions(max_new_tokens=NEW_TOKENS)
    shown, chat = picture(seed), Chat(answerer, options=options)
    turns, second = [], None
    for number in range(TURNS):
        answer = chat.ask(f"question {number} of this chat, please?", [shown] if number == 0 else [])
        turns.append(record(answer))
        if number == 1:
            exchanges, prompter = chat.exchanges, answerer.prompter
            turn = [prompter.system_turn(None), exchanges[0].question, exchanges[0].answer, exchanges[1].question]
            second = turn
    encoder = answerer.encoder
    answerer.forget()
    answerer.encoder = PictureEncoder(encoder.vision)
    forgotten = record(answerer.generate(answerer.prompter.join(second), options))
    return turns, forgotten


def record(answer) -> dict:
    timings = answer.to_dict()["timings"]
    return {name: timings[name] for name in STEPS} | {
        "prompt_tokens": answer.prompt_tokens,
        "cached_tokens": answer.cached_tokens,
        "decode_tokens_per_s": timings["decode_tokens_per_s"],
    }


def measure(folder: Path, llm: str, rounds: int) -> dict:
    from laco_engines.answering import Answerer
    from laco_export.bundle import open_bundle
    from laco_export.machine import peak_memory

    answerer = Answerer(open_bundle(folder / f"bundle-{llm}"))
    conversation(answerer, 0)
    cpu, wall = time.process_time(), time.perf_counter()
    conversations = [conversation(answerer, seed) for seed in range(1, rounds + 1)]
    cpu_per_wall = (time.process_time() - cpu) / (time.perf_counter() - wall)
    medians = [median([turns[number] for turns, _ in conversations]) for number in range(TURNS)]
    forgotten = median([again for _, again in conversations])
    shares = [turns[1]["first_token_ms"] / turns[0]["first_token_ms"] for turns, _ in conversations]
    return {
        "llm": llm,
        "rounds": rounds,
        "new_tokens_per_turn": NEW_TOKENS,
        "second_turn_over_first": statistics.median(shares),
        "second_turn_over_first_by_round": shares,
        "turns": medians,
        "second_turn_with_everything_forgotten": forgotten,
        "cpu_s_per_wall_s": cpu_per_wall,
        "load_ms": answerer.load_ms,
        "peak_memory_bytes": peak_memory(),
    }


def median(records: list[dict]) -> dict:
    return {name: statistics.median(record[name] for record in records) for name in records[0]}


def machine() -> dict:
    import platform

    from measured_on import measured_on

    libraries = ("torch", "transformers", "optimum-onnx", "onnxruntime")
    return {**measured_on(*libraries), "python": platform.python_version()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("step", choices=["make", "measure"])
    parser.add_argument("--folder", type=Path, required=True, help="holds the checkpoint and its bundles")
    parser.add_argument("--llm", default="fp32", help="the decoder's precision")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.step == "make":
        make(arguments.folder, arguments.llm)
        return 0
    result = machine() | measure(arguments.folder, arguments.llm, arguments.rounds)
    print(json.dumps(result, indent=1))
    earlier = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    RESULTS.write_text(json.dumps({**earlier, arguments.llm: result}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
