"""What a reduced vocabulary head saves a token, and what it changes, on real language models.

    make real-parts
    python benchmarks/reduced_vocabulary.py --folder DIR [--models smollm2 qwen2.5-coder] [--precisions fp32 int8 int4]

Each precision of each model is written twice over the same rounded layers, with its whole head and with :data:`SIZES`
rows chosen as ``laco-export --vocabulary TEXTS --vocabulary-size N`` chooses them, from the package's own conversations
and Python's language reference. Both then run on the lean text runtime:

- **times**: steps behind :data:`PROMPT` positions on one thread, in turn; CPU and wall time a token, and the reduced
  head's over the whole one's, medians over rounds. The nodes that put the logits in their places are timed by
  themselves, too;
- **bytes**: what the products of a step read, and the files on the disk;
- **answers**: greedy ones to :data:`QUESTIONS`, which are not of those texts: token by token the same until the whole
  head says one that has no row;
- **coverage**: of the tokens of prose that nothing was chosen from, those with a row.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import torch
from decoder_real_text import parts_folder
from decoder_step import kinds_of_nodes
from measured_on import measured_on
from onnx import TensorProto, helper, numpy_helper
from page_rows import replace_rows
from tokenizers import Tokenizer

from laco_engines.generation.lean_decoder import LeanDecoder
from laco_export.atomic import write_json
from laco_export.chat_format import CHATML, IM_END
from laco_export.conversation import render
from laco_export.embedding_table import EmbeddingTable
from laco_export.exporter.decoder import DECODER_PRECISIONS, prompts_of
from laco_export.exporter.decoder.eight_bits import choose_eight_bits
from laco_export.exporter.decoder.prompts import conversations
from laco_export.exporter.decoder.realize import write_decoder
from laco_export.exporter.decoder.reduced_head import TOKEN_IDS, scatter_logits
from laco_export.exporter.decoder.reduced_vocabulary import NeededTokens, ReducedVocabulary, choose_vocabulary
from laco_export.exporter.decoder.rounding import round_layers
from laco_export.exporter.decoder.sentences import JUDGED_ON
from laco_export.exporter.decoder.tracing import trace
from laco_export.exporter.decoder.vocabulary_request import VocabularyRequest
from laco_export.onnx_session import open_session
from laco_export.quiet import quiet_libraries
from laco_export.timing import TimedRun, time_run

RESULTS = Path(__file__).resolve().parent / "results" / "reduced_vocabulary.json"
PAGE = Path(__file__).resolve().parents[1] / "docs" / "decoder.md"
SIZES = {"smollm2": 16_384, "qwen2.5-coder": 32_768}
PROMPT = 174  # positions: one picture and 30 tokens of text
QUESTIONS = (
    *(question for question, _ in JUDGED_ON),
    "Name three animals that live in the sea.",
    "Write a short story about a lighthouse.",
    "How do I bake bread?",
    "What is written on a stop sign?",
    "Explain what a database index is.",
    "Give me a JSON object with a name and an age.",
    "Translate 'good morning' into French, German and Spanish.",
    "Write the Greek alphabet.",
)
KINDS = ("whole", "reduced")


class Subject:
    """One head of one precision of one model, loaded."""

    def __init__(self, folder: Path, embedding):
        self.graph = folder / "llm" / "model.onnx"
        self.decoder = LeanDecoder(open_session(self.graph, threads=1), EmbeddingTable(folder, embedding))
        self.folder = folder

    def sizes(self) -> dict[str, float]:
        """Megabytes that a step's products read, and that the files take."""
        _, read = kinds_of_nodes(self.graph)
        return {
            "head_mb_a_token": round(read["head"] / 1e6, 1),
            "mb_a_token": round(sum(read.values()) / 1e6, 1),
            "files_mb": round(sum(path.stat().st_size for path in (self.folder / "llm").iterdir()) / 1e6, 1),
        }

    def answer(self, ids: list[int], end: int, most: int) -> list[int]:
        """The greedy answer, its end included."""
        cache, said = self.decoder.new_cache(len(ids) + most), []
        logits = self.decoder.prefill([self.decoder.embed(np.array(ids))], cache)[:, 0]
        while len(said) < most:
            said.append(int(logits[0].argmax()))
            if said[-1] == end:
                break
            logits = self.decoder.step(said[-1:], cache, [True])
        return said

    def steps(self, ids: np.ndarray, count: int) -> TimedRun:
        """Greedy steps behind a prompt; the prompt is read first and not timed."""
        cache = self.decoder.new_cache(len(ids) + count)
        self.decoder.prefill([self.decoder.embed(ids)], cache)

        def run() -> None:
            token = int(ids[-1])
            for _ in range(count):
                token = int(self.decoder.step([token], cache, [True])[0].argmax())

        return time_run(run)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="for the decoders; emptied again")
    parser.add_argument("--models", nargs="+", default=list(SIZES))
    parser.add_argument("--precisions", nargs="+", default=["fp32", "int8", "int4"])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=16, help="a round (default: 16)")
    parser.add_argument("--tokens", type=int, default=32, help="of an answer (default: 32)")
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    document = json.loads(arguments.output.read_text()) if arguments.output.is_file() else {}
    document |= measured_on("torch", "transformers", "onnxruntime", "numpy")
    document |= {"threads": 1, "positions": PROMPT, "rounds": arguments.rounds, "steps_a_round": arguments.steps}
    for name in arguments.models:
        rows = document.setdefault("models", {}).setdefault(name, {})
        measure(name, arguments, rows, partial(write_json, arguments.output, document))
    replace_rows(PAGE, RESULTS.name, table_of(document))


def measure(name: str, arguments: argparse.Namespace, rows: dict, save) -> None:
    """Fill a model's rows, one a precision, saving behind each."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    parts = parts_folder()
    model = AutoModelForCausalLM.from_pretrained(parts / name, dtype=torch.float32).eval()
    tokenizer = Tokenizer.from_file(str(parts / name / "tokenizer.json"))
    end, vocab_size = tokenizer.token_to_id(IM_END), model.config.vocab_size
    vocabulary = vocabulary_of(arguments.folder, tokenizer, end, vocab_size, SIZES[name])
    prompts = prompts_of(_processor(AutoTokenizer.from_pretrained(parts / name)), [], -1, [])
    prose = np.array(tokenizer.encode((parts / "prose" / "prose.txt").read_text(), add_special_tokens=False).ids)
    rows["vocabulary"] = {
        "rows": len(vocabulary),
        "of": vocab_size,
        "held_out_coverage": round(vocabulary.held_out_coverage, 4),
        "prose_coverage": round(float(np.isin(prose, vocabulary.token_ids).mean()), 4),
        "scatter_ms": scatter_milliseconds(vocabulary),
        "left_out": [
            {"script": record.script, "tokens": record.tokens, "of": record.of} for record in vocabulary.left_out[:8]
        ],
    }
    for precision in arguments.precisions:
        folder = arguments.folder / f"{name}-{precision}"
        shutil.rmtree(folder, ignore_errors=True)
        subjects = write_both(model, precision, prompts, vocabulary, folder)
        rows[precision] = {
            **{kind: subject.sizes() for kind, subject in subjects.items()},
            "answers": compare_answers(subjects, tokenizer, end, vocabulary, arguments.tokens),
            "steps": compare_steps(subjects, prose[:PROMPT], arguments),
        }
        save()
        print(name, precision, json.dumps(rows[precision]["steps"]["summary"]), flush=True)
        del subjects
        shutil.rmtree(folder)


def _processor(tokenizer):
    """What :func:`prompts_of` reads of one."""
    from types import SimpleNamespace

    return SimpleNamespace(tokenizer=tokenizer)


def vocabulary_of(folder: Path, tokenizer: Tokenizer, end: int, vocab_size: int, size: int) -> ReducedVocabulary:
    """Chosen as the command does it, from the text that decoders are rounded over."""
    folder.mkdir(parents=True, exist_ok=True)
    texts = folder / "conversations.txt"
    texts.write_text(conversations(CHATML), encoding="utf-8")
    needed = NeededTokens(tokenizer, CHATML, [end], vocab_size)
    return choose_vocabulary(VocabularyRequest.read([texts], size), tokenizer, needed, vocab_size)


def write_both(model, precision: str, prompts, vocabulary: ReducedVocabulary, folder: Path) -> dict[str, Subject]:
    """The two decoders, over layers that are rounded once."""
    chosen, rounded = DECODER_PRECISIONS[precision], {}
    if chosen.bits is not None:
        text = prompts.rounding if chosen.zero_points else ()
        wide = choose_eight_bits(model, chosen, text[0]) if chosen.eight_bit_share else {}
        rounded = round_layers(model, chosen, text, frozenset(wide))
    subjects = {}
    for kind, token_ids in zip(KINDS, (None, vocabulary.token_ids)):
        place = folder / kind / "llm"
        place.mkdir(parents=True)
        embedding = write_decoder(trace(model, place), model, chosen, place, rounded, token_ids)
        subjects[kind] = Subject(folder / kind, embedding)
    return subjects


def compare_answers(
    subjects: dict[str, Subject], tokenizer: Tokenizer, end: int, vocabulary: ReducedVocabulary, most: int
) -> dict:
    """Greedy answers of both heads, and where they part."""
    rows = []
    for question in QUESTIONS:
        text = render([("user", question)], add_generation_prompt=True, chat_format=CHATML)
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        whole, reduced = (subjects[kind].answer(ids, end, most) for kind in KINDS)
        without_row = [place for place, token in enumerate(whole) if token not in set(vocabulary.token_ids.tolist())]
        sayable = without_row[0] if without_row else len(whole)
        same = next((place for place, pair in enumerate(zip(whole, reduced)) if pair[0] != pair[1]), len(whole))
        rows.append(
            {
                "question": question,
                "whole": tokenizer.decode(whole),
                "reduced": tokenizer.decode(reduced),
                "tokens": len(whole),
                "sayable_tokens": sayable,
                "same_tokens": same,
            }
        )
    return {
        "questions": len(rows),
        "same_where_sayable": sum(row["same_tokens"] >= row["sayable_tokens"] for row in rows),
        "wholly_same": sum(row["whole"] == row["reduced"] for row in rows),
        "tokens": sum(row["tokens"] for row in rows),
        "sayable_tokens": sum(row["sayable_tokens"] for row in rows),
        "answers": rows,
    }


def compare_steps(subjects: dict[str, Subject], ids: np.ndarray, arguments: argparse.Namespace) -> dict:
    """CPU and wall milliseconds a token, the two in turn; the first round warms up."""
    rounds = [
        {kind: subjects[kind].steps(ids, arguments.steps) for kind in KINDS} for _ in range(arguments.rounds + 1)
    ][1:]
    cpu = {kind: [run[kind].ms * run[kind].cpu_ratio / arguments.steps for run in rounds] for kind in KINDS}
    wall = {kind: [run[kind].ms / arguments.steps for run in rounds] for kind in KINDS}
    summary = {}
    for title, times in (("cpu", cpu), ("wall", wall)):
        summary |= {f"{title}_ms_{kind}": round(statistics.median(times[kind]), 2) for kind in KINDS}
        ratios = [reduced / whole for reduced, whole in zip(times["reduced"], times["whole"])]
        summary[f"{title}_reduced_over_whole"] = round(statistics.median(ratios), 3)
    rounded = {title: {kind: [round(ms, 2) for ms in times[kind]] for kind in KINDS} for title, times in
               (("cpu_ms", cpu), ("wall_ms", wall))}  # fmt: skip
    return {"summary": summary, **rounded}


def scatter_milliseconds(vocabulary: ReducedVocabulary, repeats: int = 200) -> float:
    """CPU time of the nodes that put one position's logits in their places, the median; of a graph of them alone."""
    rows, vocab_size = len(vocabulary), vocabulary.vocab_size
    nodes, width = scatter_logits("kept", "logits", vocab_size)
    graph = helper.make_graph(
        nodes,
        "scatter",
        [helper.make_tensor_value_info("kept", TensorProto.FLOAT, [1, 1, rows])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 1, vocab_size])],
        [width, numpy_helper.from_array(vocabulary.token_ids.astype(np.int32), TOKEN_IDS)],
    )
    path = Path(os.environ.get("TMPDIR", "/tmp")) / f"scatter-{os.getpid()}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10), path)
    try:
        session = open_session(path, threads=1)
        kept = np.zeros((1, 1, rows), np.float32)
        times = [time_run(lambda: session.run(None, {"kept": kept})) for _ in range(repeats)]
    finally:
        path.unlink()
    return round(statistics.median(run.ms * run.cpu_ratio for run in times), 3)


def table_of(document: dict) -> str:
    """As Markdown."""
    lines = [
        "| | rows of the head | MB read a token | MB of files | ms a token | × | tokens with rows | same up to there |",
        "|---|---|---|---|---|--:|---|---|",
    ]
    for name, rows in document["models"].items():
        size = rows["vocabulary"]
        for precision in (each for each in rows if each != "vocabulary"):
            whole, reduced, steps = (rows[precision][key] for key in (*KINDS, "steps"))
            summary, answers = steps["summary"], rows[precision]["answers"]
            lines.append(
                f"| {name} {precision} | {size['of']:,} → {size['rows']:,} "
                f"| {whole['mb_a_token']:.0f} → {reduced['mb_a_token']:.0f} "
                f"| {whole['files_mb']:.0f} → {reduced['files_mb']:.0f} "
                f"| {summary['cpu_ms_whole']:.1f} → {summary['cpu_ms_reduced']:.1f} "
                f"| × {summary['cpu_reduced_over_whole']:.2f} "
                f"| {answers['sayable_tokens']} of {answers['tokens']} "
                f"| {answers['same_where_sayable']} of {answers['questions']} answers |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    with quiet_libraries():
        main()
