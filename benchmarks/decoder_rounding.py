"""Other ways to round a language model to four bits, beside ours: what they cost, and what a step takes.

    make real-parts
    python benchmarks/decoder_rounding.py --folder DIR [--model smollm2] [--windows 7]

Quality is PyTorch's with the rounded weights and float activations, over ``decoder_real_text.py``'s windows and the
conversations that a bundle is judged on. ONNX Runtime's own quantisers round a matrix by the functions that its
``MatMulNBitsQuantizer`` calls. A step is one token after 32 positions on one thread: CPU time, the median of rounds in
turn over those of symmetric INT4. Of its rows only the form counts; their weights are the nearest numbers.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import torch
from decoder_real_text import BEFORE, ROUNDS, STEPS_AFTER, parts_folder, prose_windows, scores
from measured_on import measured_on
from torch.nn import functional

from laco_export.decoder_steps import run_decoder
from laco_export.exporter.decoder import DECODER_PRECISIONS, prompts_of
from laco_export.exporter.decoder.eight_bits import choose_eight_bits
from laco_export.exporter.decoder.precision import DecoderPrecision, block_size_for
from laco_export.exporter.decoder.realize import write_decoder
from laco_export.exporter.decoder.rounding import NearestMatrices, bits_a_weight, round_layers
from laco_export.exporter.decoder.rounding_cost import divergence, given_logits, log_softmax
from laco_export.exporter.decoder.skeleton import HEAD, linear_layers
from laco_export.exporter.decoder.tracing import trace
from laco_export.exporter.n_bits import dequantize_blocks, quantize_blocks
from laco_export.onnx_session import open_session
from laco_export.quiet import quiet_libraries

RESULTS = Path(__file__).resolve().parent / "results" / "decoder_rounding.json"
INT4 = DECODER_PRECISIONS["int4"]
FORMS = {
    BEFORE.name: BEFORE,
    "whole zero points": INT4,
    "whole zero points, blocks of 32": replace(INT4, block_size=32),
    "float zero points, blocks of 32": replace(INT4, block_size=32),
    "head in 4 bits": replace(INT4, head_bits=4),
}
SHARES = (0.0, 0.08, INT4.eight_bit_share)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--model", default="smollm2")
    parser.add_argument("--windows", type=int, default=7)
    parser.add_argument("--only", choices=["quality", "steps"])
    parser.add_argument("--output", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = parts_folder() / arguments.model
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    document = json.loads(arguments.output.read_text()) if arguments.output.is_file() else {}
    document |= measured_on("torch", "transformers", "onnxruntime") | {"model": arguments.model}
    prompts = prompts_of(SimpleNamespace(tokenizer=tokenizer), [], -1, [])
    if arguments.only != "steps":
        prose = prose_windows(parts_folder(), tokenizer, arguments.windows)
        document["quality"] = quality(model, prompts, prose)
    if arguments.only != "quality":
        document["step_over_int4_before"] = steps(model, prompts, arguments.folder / "forms")
    arguments.output.write_text(json.dumps(document, indent=1) + "\n")


def quality(model, prompts, prose) -> dict[str, dict]:
    table = model.get_input_embeddings().weight
    texts = [(window.embeds(table), np.arange(len(window.ids) - 1)) for window in prose]
    judged = [(prompt.embeds(table), np.flatnonzero(prompt.counted)) for prompt in prompts.judged]

    def logits(entries):
        return [log_softmax(given_logits(model, embeds, wanted)) for embeds, wanted in entries]

    expected, expected_judged = logits(texts), logits(judged)
    rows = {"fp32": scores(expected, expected, prose)}
    for label, weights, bits in ways(model, prompts):
        with installed(model, weights):
            actual, actual_judged = logits(texts), logits(judged)
        kl = np.concatenate([divergence(*pair) for pair in zip(expected_judged, actual_judged)])
        rows[label] = scores(actual, expected, prose) | {"kl_conversations": round(float(kl.mean()), 5)}
        rows[label]["bits_a_weight"] = bits
        print(label, json.dumps(rows[label]), flush=True)
    return rows


def ways(model, prompts):
    """``(label, weights by module, bits a weight of the layers)``; the head stays as it is unless it is named."""
    layers = linear_layers(model)
    for share in SHARES:
        precision = replace(INT4, eight_bit_share=share)
        eight_bit = choose_eight_bits(model, precision, prompts.rounding[0])
        rounded = round_layers(model, precision, prompts.rounding, frozenset(eight_bit))
        weights = {name: torch.from_numpy(matrix.dequantized()) for name, matrix in rounded.items()}
        yield f"int4, {share:.0%} of the weights in eight bits", weights, round(bits_a_weight(rounded.values()), 3)
    for name, of_matrix in (("k_quant", k_quant), ("HQQ", hqq), ("RTN with zero points", nearest)):
        weights = {layer: of_matrix(module.weight.detach()) for layer, module in layers.items()}
        yield f"ONNX Runtime's {name}, blocks of 128", weights, None
    for bits in (8, 4):
        head = model.get_submodule(HEAD).weight.detach().numpy()
        blocks, scales = quantize_blocks(head, bits, 128)
        stored = torch.from_numpy(dequantize_blocks(blocks, scales, bits, head.shape[1]))
        yield f"head alone in {bits} bits", {HEAD: stored}, None


def k_quant(weight: torch.Tensor) -> torch.Tensor:
    from onnxruntime.quantization.neural_compressor.weight_only import quant_tensor_k_quant_cpu

    padded, size = _padded(weight)
    numbers, scales, zeros = quant_tensor_k_quant_cpu(padded.numpy(), 4, size)
    return _cut(torch.from_numpy(((numbers - zeros) * scales).astype(np.float32)), padded, weight)


def hqq(weight: torch.Tensor) -> torch.Tensor:
    """Its zero points are floats."""
    from onnxruntime.quantization.matmul_nbits_quantizer import HQQWeightOnlyQuantConfig, HQQWeightOnlyQuantizer

    padded, size = _padded(weight)
    quantizer = HQQWeightOnlyQuantizer(HQQWeightOnlyQuantConfig(block_size=size))
    numbers, scales, zeros = quantizer.quantize_internal(padded, bits=4, group_size=size)
    blocks = numbers.reshape(len(padded), -1, size).float()
    values = (blocks - zeros.reshape(len(padded), -1, 1)) * scales.reshape(len(padded), -1, 1)
    return _cut(values, padded, weight)


def nearest(weight: torch.Tensor) -> torch.Tensor:
    from onnxruntime.quantization.neural_compressor.weight_only import quant_tensor

    padded, size = _padded(weight)
    numbers, scales, zeros = quant_tensor(padded.numpy(), 4, size, "asym", "uint")
    return _cut(torch.from_numpy(((numbers - zeros) * scales).astype(np.float32)), padded, weight)


def _padded(weight: torch.Tensor) -> tuple[torch.Tensor, int]:
    size = block_size_for(weight.shape[1], 128)
    return functional.pad(weight, (0, -weight.shape[1] % size)), size


def _cut(values: torch.Tensor, padded: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    return values.reshape(padded.shape)[:, : weight.shape[1]].contiguous()


def installed(model, weights: dict[str, torch.Tensor]) -> ExitStack:
    """Let modules compute with other weights until the stack is closed."""
    undo = ExitStack()
    for name, weight in weights.items():
        module = model.get_submodule(name)
        module.forward = lambda hidden, weight=weight, bias=module.bias: functional.linear(hidden, weight, bias)
        undo.callback(module.__dict__.pop, "forward")
    return undo


def steps(model, prompts, folder: Path) -> dict[str, float]:
    """CPU time of a step of each form over :data:`BEFORE`'s: medians of rounds in turn."""
    sessions, taken = {}, {}
    embeds = prompts.rounding[0].embeds(model.get_input_embeddings().weight)
    forms = [(label, precision, ()) for label, precision in FORMS.items()]
    for share in SHARES[1:]:
        wide = choose_eight_bits(model, replace(INT4, eight_bit_share=share), prompts.rounding[0])
        forms.append((f"whole zero points, {share:.0%} of the weights in eight bits", INT4, wide))
    for number, (label, precision, wide) in enumerate(forms):
        graph = write_form(model, precision, wide, folder / str(number))
        if label.startswith("float"):
            float_zero_points(graph)
        session = open_session(graph, threads=1)
        _, cache = run_decoder(session, embeds[None, :STEPS_AFTER], None, np.array([STEPS_AFTER - 1]))
        sessions[label], taken[label] = (session, cache), []
    for _ in range(ROUNDS):
        for label, (session, cache) in sessions.items():
            start = time.thread_time()
            run_decoder(session, embeds[None, STEPS_AFTER : STEPS_AFTER + 1], cache, np.array([0]))
            taken[label].append(time.thread_time() - start)
    shutil.rmtree(folder)
    base = taken[BEFORE.name][5:]  # the first ones warm up
    ratios = {
        label: round(statistics.median(mine / other for mine, other in zip(times[5:], base)), 3)
        for label, times in taken.items()
    }
    print(json.dumps(ratios), flush=True)
    return ratios


def write_form(model, precision: DecoderPrecision, wide, folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    graph = trace(model, folder)
    matrices = NearestMatrices(linear_layers(model), precision, frozenset(wide))
    write_decoder(graph, model, precision, folder, matrices)
    return graph


def float_zero_points(graph: Path) -> None:
    """The same graph with each zero point a float32, as a GGUF's offsets would need."""
    model = onnx.load(str(graph))
    stored = {tensor.name: tensor for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "MatMulNBits" and len(node.input) > 3 and node.input[3]:
            blocks = len(onnx.numpy_helper.to_array(stored[node.input[2]]))
            values = np.random.default_rng(0).uniform(6, 9, blocks).astype(np.float32)
            stored[node.input[3]].CopyFrom(onnx.numpy_helper.from_array(values, node.input[3]))
    data = graph.with_name(f"{graph.name}_data")
    data.unlink()
    onnx.save(model, str(graph), save_as_external_data=True, location=data.name)


if __name__ == "__main__":
    with quiet_libraries():
        main()
