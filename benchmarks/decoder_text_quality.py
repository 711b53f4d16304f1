"""What each precision of the decoder costs on real prose: perplexity and next tokens of a small trained language model.

    python benchmarks/decoder_text_quality.py --folder DIR [--steps 240]

The text is what every Python installation has: the docstrings of the standard library and the language reference behind
``help()``. A Qwen2 of 2.3 million weights is trained on it (about two minutes of one core; a model that ``DIR`` holds
is taken as it is), exported as ``laco-export --llm`` does, and each precision reads two texts that were held out:

* ``docstrings``: those of every fortieth file of the standard library, without paragraphs that the others have too;
* ``license``: this project's LICENSE, prose of another kind.

Perplexity is over all tokens but a window's first; agreement is with PyTorch's FP32 best token.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import json
import platform
import sysconfig
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from decoder_models import ENTRY_NAME, open_decoder_at
from decoder_quality import RESULTS, TRIED, scores
from measured_on import device_title

from laco_export.exporter.decoder import DECODER_PRECISIONS, export_decoder
from laco_export.machine import library_versions
from laco_export.quiet import quiet_libraries

ROOT = Path(__file__).resolve().parent.parent
WINDOW, BATCH = 256, 8  # tokens, and windows of a training step
VOCABULARY = 2048
HELD_OUT_EVERY = 40  # files
LEAST_WORDS = 5  # of a paragraph: shorter ones are signatures and headings
NOT_PROSE = ("test", "tests", "idlelib", "lib2to3", "site-packages", "dist-packages", "__pycache__")
COMPARED = (
    *DECODER_PRECISIONS.values(),
    next(precision for precision in TRIED if precision.name.startswith("int4 block 32, head int8 b")),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=240)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    training, texts = prose()
    tokenizer, model, trained = trained_model(arguments.folder, training, arguments.steps)
    windows = {name: cut(tokenizer.encode(text).ids) for name, text in texts.items()}
    rows = {name: {} for name in windows}
    references = {name: [pytorch_logits(model, ids) for ids in parts] for name, parts in windows.items()}
    for precision in (None, *COMPARED):
        decoder = None if precision is None else exported(model, arguments.folder, precision)
        for name, parts in windows.items():
            logits = references[name] if decoder is None else [decoder_logits(decoder, ids) for ids in parts]
            row = scores(logits, references[name], [{"answer": ids[1:]} for ids in parts])
            rows[name]["PyTorch fp32" if precision is None else precision.name] = row
            print(name, precision and precision.name, json.dumps(row), flush=True)
    document = {
        "model": trained,
        "python": platform.python_version(),
        "device": device_title(),
        "versions": library_versions(("torch", "onnxruntime", "optimum-onnx", "transformers")),
        "texts": {
            name: {
                "sha256": hashlib.sha256(text.encode()).hexdigest(),
                "characters": len(text),
                "tokens": int(sum(len(ids) - 1 for ids in windows[name])),
                "precisions": rows[name],
            }
            for name, text in texts.items()
        },
    }
    earlier = json.loads(arguments.output.read_text()) if arguments.output.is_file() else {}
    arguments.output.write_text(json.dumps({**earlier, "text": document}, indent=1) + "\n")


def prose() -> tuple[str, dict[str, str]]:
    """The text to train on, and the texts held out by name."""
    from pydoc_data.topics import topics

    standard_library = Path(sysconfig.get_path("stdlib"))
    files = sorted(
        path
        for path in standard_library.rglob("*.py")
        if not set(path.relative_to(standard_library).parts) & set(NOT_PROSE)
    )
    held_out = files[::HELD_OUT_EVERY]
    training = [paragraph for path in files if path not in held_out for paragraph in docstrings(path)]
    training += [paragraph for topic in sorted(topics) for paragraph in paragraphs(topics[topic])]
    trained_on = set(training)
    unseen = [paragraph for path in held_out for paragraph in docstrings(path) if paragraph not in trained_on]
    unique = "\n\n".join(dict.fromkeys(training))  # topics repeat each other
    return unique, {"docstrings": "\n\n".join(unseen), "license": (ROOT / "LICENSE").read_text(encoding="utf-8")}


def docstrings(path: Path) -> list[str]:
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, UnicodeDecodeError):
        return []
    owners = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node) or "" for node in ast.walk(tree) if isinstance(node, owners)]
    return [paragraph for text in texts for paragraph in paragraphs(text)]


def paragraphs(text: str) -> list[str]:
    """Paragraphs of some words, without examples at a prompt."""
    stripped = (paragraph.strip() for paragraph in text.split("\n\n"))
    return [paragraph for paragraph in stripped if len(paragraph.split()) >= LEAST_WORDS and ">>>" not in paragraph]


def trained_model(folder: Path, text: str, steps: int):
    """Tokenizer, model and what is to be said of them; trained now unless ``folder`` holds them."""
    from tokenizers import Tokenizer
    from transformers import Qwen2ForCausalLM

    if not (folder / "training.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        tokenizer = make_tokenizer(text)
        tokenizer.save(str(folder / "tokenizer.json"))
        model, facts = train(tokenizer, text, steps)
        model.save_pretrained(folder / "pytorch")
        (folder / "training.json").write_text(json.dumps(facts, indent=1))
    facts = json.loads((folder / "training.json").read_text())
    model = Qwen2ForCausalLM.from_pretrained(folder / "pytorch", dtype=torch.float32).eval()
    return Tokenizer.from_file(str(folder / "tokenizer.json")), model, facts


def make_tokenizer(text: str):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=VOCABULARY, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(text.split("\n\n"), trainer)
    return tokenizer


def train(tokenizer, text: str, steps: int):
    """A tied Qwen2 with AdamW and one cosine; each step reads windows at random places."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(0)
    config = Qwen2Config(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=512,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
    )
    model = Qwen2ForCausalLM(config).train()
    ids = torch.tensor(tokenizer.encode(text).ids)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, betas=(0.9, 0.95), weight_decay=0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps, pct_start=0.1)
    places, start, cpu = torch.Generator().manual_seed(0), time.perf_counter(), time.process_time()
    for step in range(steps):
        begins = torch.randint(0, len(ids) - WINDOW, (BATCH,), generator=places)
        batch = torch.stack([ids[begin : begin + WINDOW] for begin in begins])  # [BATCH, WINDOW]
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % 20 == 0 or step == steps - 1:
            print(f"step {step}: loss {loss.item():.3f}, {time.process_time() - cpu:.0f} s of CPU", flush=True)
    return model.eval(), {
        "weights": sum(parameter.numel() for parameter in model.parameters()),
        "training_text": {
            "sha256": hashlib.sha256(text.encode()).hexdigest(),
            "characters": len(text),
            "tokens": len(ids),
        },
        "steps": steps,
        "tokens_read": steps * BATCH * WINDOW,
        "last_loss": round(loss.item(), 4),
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
    }


def cut(ids: list[int]) -> list[np.ndarray]:
    """Windows; the last may be shorter."""
    windows = [np.array(ids[start : start + WINDOW]) for start in range(0, len(ids), WINDOW)]
    return [window for window in windows if len(window) > 1]


def exported(model, folder: Path, precision):
    """The decoder of a precision, exported by Optimum and opened as ``laco-engine`` opens it."""
    target = folder / precision.name
    DECODER_PRECISIONS.setdefault(precision.name, precision)
    entry = export_decoder(model, image_token_id=0, eos_token_ids=[0], output_folder=target, precision=precision.name)
    (target / ENTRY_NAME).write_text(json.dumps(asdict(entry)))
    return open_decoder_at(target, threads=1)


@torch.inference_mode()
def pytorch_logits(model, ids: np.ndarray) -> np.ndarray:
    """Logits ``[len(ids) - 1, V]`` before each token but the first."""
    return model(input_ids=torch.from_numpy(ids)[None]).logits[0, :-1].numpy()


@torch.inference_mode()
def decoder_logits(decoder, ids: np.ndarray) -> np.ndarray:
    return decoder(input_ids=torch.from_numpy(ids)[None]).logits[0, :-1].numpy()


if __name__ == "__main__":
    with quiet_libraries():
        main()
