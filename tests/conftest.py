"""Fixtures shared by all packages: a tiny checkpoint on disk, and the real parts where they were made."""

import hashlib
import os
import sys
from pathlib import Path

import pytest

import laco_export  # noqa: F401 - ONNX Runtime's telemetry is off before a test imports it

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))  # real_parts
pytest_plugins = ["process_costs"]
if "PYTEST_XDIST_WORKER" in os.environ:
    # Before anything imports torch: a worker has one core, and threads on the others would wait for their workers.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

SPECIAL_TOKENS = [
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
"""Qwen2.5's, in its order."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers(config):
    """``-n auto``: one a core that this process may use, where pytest-xdist counts the machine's. A worker takes
    1 GB."""
    from laco_export.machine import default_threads

    return min(8, default_threads())


def tiny_tokenizer():
    """A byte-level BPE tokenizer with 256 byte tokens, no merges, and Qwen2.5's special tokens."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import Qwen2TokenizerFast

    alphabet = {token: index for index, token in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    tokenizer = Tokenizer(models.BPE(vocab=alphabet, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in SPECIAL_TOKENS])
    return Qwen2TokenizerFast(tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def tiny_encoder(kind="aimv2", *, blocks=2, grid=(4, 4)):
    """A transformers vision encoder of width 32 over ``grid`` patches of 14 pixels, with random weights."""
    import torch
    from transformers import (
        Aimv2VisionConfig,
        Aimv2VisionModel,
        CLIPVisionConfig,
        CLIPVisionModel,
        InternVLVisionConfig,
        InternVLVisionModel,
        SiglipVisionConfig,
        SiglipVisionModel,
    )

    height, width = 14 * grid[0], 14 * grid[1]
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": blocks, "num_attention_heads": 4}
    if kind == "aimv2":
        model = Aimv2VisionModel(Aimv2VisionConfig(**sizes, image_size=height, patch_size=14, use_head=False))
    elif kind == "siglip":
        model = SiglipVisionModel(SiglipVisionConfig(**sizes, image_size=height, patch_size=14, vision_use_head=False))
    elif kind == "clip":
        model = CLIPVisionModel(CLIPVisionConfig(**sizes, image_size=height, patch_size=14))
    else:
        model = InternVLVisionModel(InternVLVisionConfig(**sizes, image_size=[height, width], patch_size=[14, 14]))
    # transformers initialises norms to one, biases to zero, attention to almost uniform and blocks to almost nothing: a
    # wrong permutation, a lost bias or a lost scale would not show.
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name or name.endswith("bias"):
                parameter.add_(torch.randn_like(parameter) * 0.2)
            elif "q_proj" in name or "k_proj" in name:
                parameter.mul_(10)
            elif "lambda" in name:  # InternViT's LayerScale: one value for all channels
                parameter.mul_(0.5 + torch.rand_like(parameter))
            elif "layer" in name and parameter.ndim == 2:
                parameter.mul_(5)
    return model.eval()


def tiny_model(kind="aimv2", *, blocks=2, grid=(4, 4), at="1/2", vocab_size=264, image_token_id=262, **options):
    """A LaCo model with random weights, the same on every call."""
    import torch
    from transformers import Qwen2Config, Qwen2ForCausalLM

    from laco_export.models import LacoForConditionalGeneration

    torch.manual_seed(0)
    config = Qwen2Config(
        hidden_size=48,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=3,  # heads of 16: what ONNX Runtime's attention takes
        num_key_value_heads=1,
        vocab_size=vocab_size,
        max_position_embeddings=512,
        tie_word_embeddings=True,
    )
    encoder = tiny_encoder(kind, blocks=blocks, grid=grid)
    model = LacoForConditionalGeneration.from_parts(
        encoder, Qwen2ForCausalLM(config), image_token_id=image_token_id, at=at, **options
    )
    with torch.no_grad():
        for name, parameter in model.vision_model.compressors.named_parameters():
            if "norm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    return model.eval()


def save_tiny_checkpoint(model, folder):
    """Write ``model`` with the tiny tokenizer and its published preprocessing."""
    from laco_export.models import LacoImageProcessor, LacoProcessor, checkpoint

    preprocessing = model.vision_model.spec.preprocessing(model.config.vision_config)
    processor = LacoProcessor(
        image_processor=LacoImageProcessor(**preprocessing.to_dict()),
        tokenizer=tiny_tokenizer(),
        image_seq_length=model.tokens_per_image,
    )
    checkpoint.save(model, processor, folder)
    return folder


@pytest.fixture(scope="session")
def make_tiny_model():
    """``make_tiny_model(kind="aimv2", *, blocks=2, grid=(4, 4), at="1/2", **options)``: a random LaCo model."""
    return tiny_model


@pytest.fixture(scope="session")
def make_tiny_checkpoint():
    """``make_tiny_checkpoint(model, folder)``: the model saved with a tiny tokenizer and its preprocessing."""
    return save_tiny_checkpoint


@pytest.fixture(scope="session")
def tiny_checkpoint(tmp_path_factory):
    """A folder with a tiny AIMv2 LaCo checkpoint at 1/2 depth: 2 blocks, a 4 × 4 token grid, random weights."""
    return save_tiny_checkpoint(tiny_model(), tmp_path_factory.mktemp("checkpoints") / "tiny")


_TRACED = {}


def _digest_of(tower) -> str:
    """Of all that a tower's graph depends on."""
    vision = tower.vision_model
    digest = hashlib.sha256(repr((tower, tower.boundary_names, vision.compression, vision.grid, vision.path)).encode())
    digest.update(vision.encoder.config.to_json_string().encode())
    for name, tensor in tower.state_dict().items():
        digest.update(name.encode() + tensor.numpy().tobytes())
    return digest.hexdigest()


@pytest.fixture(scope="module")
def traced_once():
    """Exports trace a tower the first time that they meet it and copy its graph from then on: tracing is most of a tiny
    export's time. For tests of what becomes of a graph."""
    from laco_export.exporter import vision_graph

    trace = vision_graph.graph_from_tower

    def copy_of_trace(tower, pixel_shape, *, opset):
        key = _digest_of(tower), pixel_shape, opset
        if key not in _TRACED:
            _TRACED[key] = trace(tower, pixel_shape, opset=opset)
        return _TRACED[key].copy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vision_graph, "graph_from_tower", copy_of_trace)
        yield


@pytest.fixture(scope="session")
def real_part():
    """``real_part("smollm2")``: the finished folder of a real part; the test is skipped where it was not made."""
    from real_parts.cache import default_folder, is_finished
    from real_parts.parts import PARTS

    def folder_of(name):
        folder = default_folder() / name
        if not is_finished(folder, PARTS[name].record()):
            pytest.skip(f"needs the real parts: make real-parts (there is no finished '{folder}')")
        return folder

    return folder_of


@pytest.fixture(scope="session")
def imported(tmp_path_factory):
    """``imported(family)``: a folder of a published family with transformers' model, and what is read of it."""
    from published_folders import published

    from laco_export.models.published import read_published

    families = {}

    def get(family):
        if family not in families:
            theirs = published(family, tmp_path_factory.mktemp(family))
            families[family] = theirs, read_published(theirs.folder)
        return families[family]

    return get
