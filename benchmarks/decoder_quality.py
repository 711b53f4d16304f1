"""What each precision of the decoder costs in answers, perplexity and next tokens, on a trained model.

    python benchmarks/decoder_quality.py [--checkpoint DIR] [--heldout DIR] [--output FILE]

Asks the held-out questions of the tiny checkpoint (``tests/assets``) of its FP32 bundle with the decoder in each
precision, and in others that were tried. Perplexity and agreement are over the tokens of the true answers, end token
included, given picture and question; agreement is with PyTorch's FP32 best token. Random weights would say nothing:
they have no redundancy that rounding could use.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from measured_on import device_title

from laco_engines.answering import Answerer
from laco_export.bundle import open_bundle, write_manifest
from laco_export.chat_format import IM_END
from laco_export.exporter.decoder import DECODER_PRECISIONS, DecoderPrecision, export_decoder
from laco_export.exporter.options import ExportOptions
from laco_export.exporter.pipeline import export_bundle
from laco_export.machine import library_versions
from laco_export.models import checkpoint
from laco_export.quiet import quiet_libraries

ASSETS = Path(__file__).resolve().parent.parent / "tests" / "assets"
RESULTS = Path(__file__).resolve().parent / "results" / "decoder_quality.json"
TRIED = tuple(
    DecoderPrecision(
        f"int{bits} block {block}, head int{head} block {head_block}",
        bits=bits,
        block_size=block,
        head_bits=head,
        head_block_size=head_block,
    )
    for bits, block, head, head_block in (
        (8, 32, 8, 32),
        (4, 64, 8, 128),
        (4, 32, 8, 128),
        (4, 32, 8, 32),
        (4, 32, 4, 32),
        (4, 128, 4, 128),
    )
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoint", type=Path, default=ASSETS / "tiny-checkpoint")
    parser.add_argument("--heldout", type=Path, default=ASSETS / "tiny-heldout")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    entries = json.loads((arguments.heldout / "heldout.json").read_text())
    loaded = checkpoint.load(arguments.checkpoint)
    with tempfile.TemporaryDirectory() as scratch, quiet_libraries():
        base = Path(scratch) / "fp32"
        export_bundle(ExportOptions(arguments.checkpoint, precision="fp32", output=base, compile=False))
        first = Answerer(open_bundle(base))
        prompts = [teacher_prompt(first, arguments.heldout, entry) for entry in entries]
        reference = [pytorch_logits(loaded.model.language_model, prompt) for prompt in prompts]
        rows = {"PyTorch fp32": scores(reference, reference, prompts)}
        for precision in (*DECODER_PRECISIONS.values(), *TRIED):
            folder = with_decoder(base, Path(scratch) / "other", loaded.model, precision)
            answerer = Answerer(open_bundle(folder))
            logits = [decoder_logits(answerer.decoder, prompt) for prompt in prompts]
            rows[precision.name] = {
                **scores(logits, reference, prompts),
                "right_answers": right_answers(answerer, arguments.heldout, entries),
                "decoder_bytes": sum(path.stat().st_size for path in (folder / "llm").iterdir()),
            }
            print(precision.name, json.dumps(rows[precision.name]), flush=True)
            shutil.rmtree(folder)
    document = {
        "checkpoint": arguments.checkpoint.name,
        "questions": len(entries),
        "answer_tokens": int(sum(len(prompt["answer"]) for prompt in prompts)),
        "device": device_title(),
        "versions": library_versions(("torch", "onnxruntime", "optimum-onnx", "transformers")),
        "precisions": rows,
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    earlier = json.loads(arguments.output.read_text()) if arguments.output.is_file() else {}
    text = {"text": earlier["text"]} if "text" in earlier else {}  # of decoder_text_quality.py
    arguments.output.write_text(json.dumps({**document, **text}, indent=1) + "\n")


def teacher_prompt(answerer: Answerer, heldout: Path, entry: dict) -> dict:
    """A question with its true answer: ids, visual features and the answer's ids, the end token included."""
    question, truth = (turn["value"] for turn in entry["conversations"])
    prompt = answerer.prompter.prepare([heldout / entry["image"]], question)
    tokenizer = answerer.prompter.tokenizer
    answer = [*tokenizer.encode(truth, add_special_tokens=False).ids, tokenizer.token_to_id(IM_END)]
    answerer.vision.prepare(1)
    features = answerer.vision.encode(prompt.pixel_values)[0]  # [tokens, D]
    return {
        "ids": np.concatenate([prompt.input_ids, answer[:-1]]),
        "answer": np.array(answer),
        "features": features,
        "image_token_id": answerer.prompter.decoder.image_token_id,
    }


def with_features(embeds: torch.Tensor, prompt: dict) -> torch.Tensor:
    embeds = embeds.clone()
    embeds[0, torch.from_numpy(prompt["ids"] == prompt["image_token_id"])] = torch.from_numpy(prompt["features"]).to(
        embeds
    )
    return embeds


@torch.inference_mode()
def pytorch_logits(language_model, prompt: dict) -> np.ndarray:
    """Logits ``[answer, V]`` before each token of the answer."""
    embeds = language_model.get_input_embeddings()(torch.from_numpy(prompt["ids"])[None])
    embeds = with_features(embeds, prompt)
    return language_model(inputs_embeds=embeds, logits_to_keep=len(prompt["answer"])).logits[0].numpy()


@torch.inference_mode()
def decoder_logits(decoder, prompt: dict) -> np.ndarray:
    embeds = with_features(decoder.embed(torch.from_numpy(prompt["ids"])[None]), prompt)
    return decoder(inputs_embeds=embeds, logits_to_keep=len(prompt["answer"])).logits[0].numpy()


def with_decoder(base: Path, folder: Path, model, precision: DecoderPrecision) -> Path:
    """A copy of a bundle with its decoder in another precision."""
    shutil.copytree(base, folder)
    shutil.rmtree(folder / "llm")
    registered = DECODER_PRECISIONS.setdefault(precision.name, precision)
    manifest = open_bundle(base).manifest
    decoder = export_decoder(
        model.language_model,
        image_token_id=manifest.decoder.image_token_id,
        eos_token_ids=manifest.decoder.eos_token_ids,
        output_folder=folder,
        precision=registered.name,
        generation_config=model.generation_config,
    )
    write_manifest(folder, replace(manifest, decoder=decoder))
    return folder


def scores(logits: list[np.ndarray], reference: list[np.ndarray], prompts: list[dict]) -> dict:
    """Perplexity of the true answers, and the share of positions where the best token is the reference's."""
    losses, same = [], []
    for tested, expected, prompt in zip(logits, reference, prompts, strict=True):
        shifted = tested - tested.max(-1, keepdims=True)
        log_probabilities = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
        losses.append(-log_probabilities[np.arange(len(tested)), prompt["answer"]])
        same.append(tested.argmax(-1) == expected.argmax(-1))
    return {
        "perplexity": round(math.exp(float(np.concatenate(losses).mean())), 5),
        "same_next_token": round(float(np.concatenate(same).mean()), 5),
    }


def right_answers(answerer: Answerer, heldout: Path, entries: list[dict]) -> int:
    right = 0
    for entry in entries:
        question, truth = (turn["value"] for turn in entry["conversations"])
        answer = answerer.answer([heldout / entry["image"]], question, max_new_tokens=16)
        right += answer.text == truth
    return right


if __name__ == "__main__":
    main()
