"""A language model of Qwen2.5-0.5B's shape with random weights, and its decoders, for the decoder's benchmarks.

    python benchmarks/decoder_models.py --folder DIR [--precisions fp32 int8 int4] [--variants] [--gguf LLAMA.CPP]

The model goes to ``DIR/pytorch``, each precision to ``DIR/<precision>`` as a bundle would hold it, with the manifest's
entry, ``decoder.json``, beside it.
``--variants`` adds what was tried instead: :data:`VARIANTS` and dynamic INT8.
``--gguf`` also writes the same weights for llama.cpp: the folder of its source with a build in ``build/`` (gguf-py and
``llama-quantize`` are taken from there).

Random weights carry speed, size, memory and parity; they say nothing about what quantisation costs. Their size is three
times the usual, biases and norms are random too: with the usual ones the last token alone decides what comes next.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch

VARIANTS = {
    "int8 block 32": {"bits": 8, "block_size": 32, "head_bits": 8, "head_block_size": 32},
    "int4 block 32": {"bits": 4, "block_size": 32, "head_bits": 8},
    "int4 block 64": {"bits": 4, "block_size": 64, "head_bits": 8},
}
"""Fields of a DecoderPrecision by name."""

ENTRY_NAME = "decoder.json"
IMAGE_TOKEN_ID, EOS_TOKEN_ID = 151655, 151645
TOKENS_PER_IMAGE = 144  # AIMv2-L/336 merged two by two
PROMPT = 174  # one picture and 30 tokens of text
GGUF = {"fp32": "F32", "int8": "Q8_0", "int4": "Q4_0"}
"""llama.cpp's form of equal bits: blocks of 32; under Q4_0 the head stays 8-bit, as in our int4."""


def language_model():
    """The same weights on every call; 2 GB."""
    from published_sizes import qwen2_5_0_5b_config
    from transformers import Qwen2ForCausalLM

    config = qwen2_5_0_5b_config()
    config.initializer_range = 0.06
    torch.manual_seed(0)
    model = Qwen2ForCausalLM(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return model


def open_decoder_at(folder: Path, threads: int = 2):
    """The decoder that :func:`main` wrote into ``folder``, as ``laco-engine`` opens it."""
    from laco_engines.generation.decoder import open_decoder

    return open_decoder(decoder_bundle(folder), threads=threads, provider="cpu")


def decoder_bundle(folder: Path):
    """A bundle of a language model and nothing else: the files that :func:`write` wrote."""
    from laco_export.bundle import Bundle, Decoder
    from laco_export.embedding_table import EmbeddingStorage
    from laco_export.verified_files import sha256_of

    entry = json.loads((folder / ENTRY_NAME).read_text())
    files = {
        path.relative_to(folder).as_posix(): {"bytes": path.stat().st_size, "sha256": sha256_of(path)}
        for path in folder.rglob("*")
        if path.is_file() and path.name != ENTRY_NAME
    }
    decoder = Decoder(**{**entry, "embedding": EmbeddingStorage.from_dict(entry["embedding"])})
    return Bundle(folder, SimpleNamespace(decoder=decoder, files=files))


def machine() -> dict:
    """What figures were measured on and with, for every file of results."""
    import platform

    from measured_on import measured_on

    libraries = ("torch", "transformers", "optimum-onnx", "onnxruntime")
    return {**measured_on(*libraries), "python": platform.python_version()}


def write(model, folder: Path, precision: str, prompts=None) -> None:
    """A decoder and its manifest's entry; ``prompts`` to round over, as of ``export_decoder``."""
    from laco_export.exporter.decoder import export_decoder

    entry = export_decoder(
        model,
        image_token_id=IMAGE_TOKEN_ID,
        eos_token_ids=[EOS_TOKEN_ID],
        output_folder=folder,
        precision=precision,
        prompts=prompts,
    )
    (folder / ENTRY_NAME).write_text(json.dumps(asdict(entry), indent=1))
    print(folder.name, sum(path.stat().st_size for path in (folder / "llm").iterdir()) / 1e9, "GB", flush=True)


def write_variants(model, folder: Path) -> None:
    from laco_export.exporter.decoder import DECODER_PRECISIONS, DecoderPrecision

    for name, fields in VARIANTS.items():
        DECODER_PRECISIONS[name] = DecoderPrecision(name, **fields)
        write(model, folder / name, name)
    shutil.copytree(folder / "int8", folder / "int8 dynamic", dirs_exist_ok=True)
    make_dynamic(folder / "int8 dynamic" / "llm")


def make_dynamic(folder: Path) -> None:
    """Turn an 8-bit decoder's MatMulNBits into DynamicQuantizeMatMul: one scale a column, one for each activation."""
    import onnx
    from onnx import helper, numpy_helper

    from laco_export.exporter.external_data import WeightFile
    from laco_export.exporter.n_bits import dequantize_blocks

    model = onnx.load(folder / "model.onnx")
    graph, values = model.graph, {tensor.name: tensor for tensor in model.graph.initializer}
    added, gone = [], set()
    with WeightFile(folder / "model.dynamic_data") as weights:
        for node in graph.node:
            if node.op_type != "MatMulNBits":
                continue
            sizes = {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}
            blocks, scales = (numpy_helper.to_array(values[name]) for name in node.input[1:3])
            matrix = dequantize_blocks(blocks, scales, 8, sizes["K"])  # [N, K]
            scale = np.maximum(np.abs(matrix).max(1), 1e-12) / 127
            rounded = np.rint(matrix / scale[:, None]).astype(np.int8).T  # [K, N]
            names = [f"{node.output[0]}.{kind}" for kind in ("int8", "scales", "zeros")]
            arrays = (rounded, scale.astype(np.float32), np.zeros(len(scale), np.int8))
            added += [weights.add(name, array) for name, array in zip(names, arrays)]
            gone.update(node.input[1:3])
            bias = list(node.input[5:6])
            inputs = [node.input[0], *names, *bias]
            node.CopyFrom(
                helper.make_node("DynamicQuantizeMatMul", inputs, node.output, name=node.name, domain=node.domain)
            )
    remaining = [tensor for tensor in graph.initializer if tensor.name not in gone]
    del graph.initializer[:]
    graph.initializer.extend([*remaining, *added])
    (folder / "model.onnx").write_bytes(model.SerializeToString())


def write_gguf(model, folder: Path, source: Path) -> None:
    sys.path.insert(0, str(source / "gguf-py"))
    import gguf

    from laco_export.models.transformers_versions import rotary_parameters

    config, path = model.config, folder / "fp32.gguf"
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(rotary_parameters(config)["rope_theta"])
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(config.vocab_size)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.QWEN2, config.num_hidden_layers)
    for name, parameter in model.named_parameters():  # the tied head is not among them
        renamed = names.get_name(name, try_suffixes=(".weight", ".bias"))
        writer.add_tensor(renamed, parameter.detach().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    quantize = source / "build" / "bin" / "llama-quantize"
    for precision in ("int8", "int4"):
        head = ["--token-embedding-type", "q8_0"] if precision == "int4" else []
        target = folder / f"{precision}.gguf"
        subprocess.run([quantize, *head, path, target, GGUF[precision], "2"], check=True, stdout=subprocess.DEVNULL)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--precisions", nargs="*", default=["fp32", "int8", "int4"])
    parser.add_argument("--variants", action="store_true")
    parser.add_argument("--gguf", type=Path, metavar="LLAMA.CPP")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    model = language_model()
    model.save_pretrained(arguments.folder / "pytorch")
    for precision in arguments.precisions:
        write(model, arguments.folder / precision, precision)
    if arguments.variants:
        write_variants(model, arguments.folder)
    if arguments.gguf:
        write_gguf(model, arguments.folder, arguments.gguf)


if __name__ == "__main__":
    main()
