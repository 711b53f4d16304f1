"""Fixtures of laco_engines' tests: tiny bundles and what answers them. tests/whole/engines uses them too."""

import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def random_model(image_token_id, eos_token_id, vocab_size, *, blocks=4, **options):
    import torch
    from transformers import Aimv2VisionConfig, Aimv2VisionModel, Qwen2Config, Qwen2ForCausalLM

    from laco_export.models import LacoForConditionalGeneration

    torch.manual_seed(0)
    vision = Aimv2VisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=blocks,
        num_attention_heads=4,
        image_size=56,
        patch_size=14,
        use_head=False,
    )
    # Weights ten times the usual size: with the usual ones the last token alone decides and pictures change nothing.
    text = Qwen2Config(
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=3,  # heads of 16: what ONNX Runtime's attention takes
        num_key_value_heads=1,
        vocab_size=vocab_size,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=eos_token_id,
        pad_token_id=0,
    )
    model = LacoForConditionalGeneration.from_parts(
        Aimv2VisionModel(vision), Qwen2ForCausalLM(text), image_token_id=image_token_id, **options
    )
    for layer in (model.projector.linear_1, model.projector.linear_2):
        torch.nn.init.normal_(layer.weight, std=0.5)
    return model.eval()


@pytest.fixture(scope="session")
def answering_model(tiny_checkpoint):
    """``(model, processor)``: the tiny checkpoint's processor, and random weights that pictures can sway."""
    from laco_export.models import LacoProcessor

    processor = LacoProcessor.from_pretrained(tiny_checkpoint)
    tokenizer = processor.tokenizer
    return random_model(processor.image_token_id, tokenizer.eos_token_id, len(tokenizer)), processor


@pytest.fixture(scope="session")
def tiled_model(answering_model):
    """The same with a model that tiles single pictures into grids of up to 3 x 3, scaled down above four tiles."""
    from laco_export.models import LacoProcessor

    tokenizer = answering_model[1].tokenizer
    tiling = {"tile": 56, "max_rows": 3, "max_columns": 3, "max_tiles": 4}
    token_id = tokenizer.convert_tokens_to_ids("<|image_pad|>")
    model = random_model(token_id, tokenizer.eos_token_id, len(tokenizer), tiling=tiling)
    return model, LacoProcessor.for_model(model, tokenizer)


@pytest.fixture(scope="session")
def bundle_folder(answering_model, tmp_path_factory) -> Path:
    """An FP32 bundle of ``answering_model`` with vision graphs for one and for two pictures."""
    from laco_export.exporter import pipeline
    from laco_export.exporter.options import ExportOptions
    from laco_export.models import checkpoint

    folder = tmp_path_factory.mktemp("engines")
    checkpoint.save(*answering_model, folder / "tiny")
    options = ExportOptions(folder / "tiny", precision="fp32", batches=(1, 2), output=folder / "bundle", compile=False)
    return pipeline.export_bundle(options).output


@pytest.fixture(scope="session")
def bundle(bundle_folder):
    from laco_export.bundle import open_bundle

    return open_bundle(bundle_folder)


@pytest.fixture(scope="session")
def answerer(bundle):
    from laco_engines.answering import Answerer

    return Answerer(bundle, threads=1)


@pytest.fixture(scope="session")
def needs_optimum():
    """Skips where Optimum is not installed, or allows no such transformers: what is tested is Optimum's alone, or
    compared with it."""
    from laco_engines.generation.text_runtime import choose_text_runtime

    chosen, passed_over = choose_text_runtime()
    if chosen != "optimum":
        pytest.skip(passed_over[0])


@pytest.fixture(scope="session")
def lean_answerer(bundle):
    """The same bundle on the text runtime without PyTorch."""
    from laco_engines.answering import Answerer

    return Answerer(bundle, text_runtime="lean", threads=1)


@pytest.fixture
def rewritten(bundle_folder, tmp_path):
    """``rewritten(newline=False, **changes)``: a copy of the bundle whose manifest has other fields, with a valid
    digest; and with a file of a newline's embedding, ``image_newline.npy``."""
    import shutil

    from laco_export.bundle import read_manifest, write_manifest

    def make(newline=False, **changes) -> Path:
        folder = tmp_path / "rewritten"
        shutil.copytree(bundle_folder, folder)
        if newline:
            width = read_manifest(folder).vision.graphs[0].output.shape[-1]
            np.save(folder / "image_newline.npy", np.zeros(width, np.float32))
        write_manifest(folder, dataclasses.replace(read_manifest(folder), **changes))
        return folder

    return make


def picture(seed: int, size=(80, 60), mode="RGB") -> Image.Image:
    """Smooth random colours, so that resizing leaves something to see."""
    small = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).convert(mode)


@pytest.fixture(scope="session")
def make_picture():
    """``make_picture(seed, size, mode)``"""
    return picture


@pytest.fixture(scope="session")
def picture_file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pictures") / "one.png"
    picture(1).save(path)
    return path


@pytest.fixture
def one_graph(rewritten, bundle):
    """The bundle with the graph for one picture alone."""
    vision = bundle.manifest.vision
    return rewritten(vision=dataclasses.replace(vision, graphs=vision.graphs[:1]))


@pytest.fixture
def engine_cache(tmp_path, monkeypatch):
    """An engine cache of the test's own, which is also the process's."""
    from laco_engines.store.engine_cache import EngineCache

    monkeypatch.setenv("LACO_ENGINE_CACHE", str(tmp_path / "engines"))
    return EngineCache()


@pytest.fixture
def rtx():
    """TensorRT-RTX, or the test is skipped."""
    if importlib.util.find_spec("tensorrt_rtx") is None:
        pytest.skip("needs TensorRT-RTX (pip install tensorrt-rtx)")
    return "tensorrt_rtx"
