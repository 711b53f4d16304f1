import dataclasses
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

EOS = "<|im_end|>"
SPECIALS = ["<|endoftext|>", "<|im_start|>", EOS, "<|image_pad|>"]


def _tokenizer():
    """Every byte a token: any text can be asked, and any answer decoded."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import Qwen2TokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: index for index, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in SPECIALS])
    return Qwen2TokenizerFast(
        tokenizer_object=tokenizer, eos_token=EOS, pad_token=SPECIALS[0], additional_special_tokens=SPECIALS[1:]
    )


def _model(image_token_id, eos_token_id, vocab_size):
    import torch
    from transformers import Aimv2VisionConfig, Aimv2VisionModel, Qwen2Config, Qwen2ForCausalLM

    from laco_export.models import LacoForConditionalGeneration

    torch.manual_seed(0)
    vision = Aimv2VisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
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
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=vocab_size,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        initializer_range=0.2,
        bos_token_id=None,
        eos_token_id=eos_token_id,
        pad_token_id=0,
    )
    model = LacoForConditionalGeneration.from_parts(
        Aimv2VisionModel(vision), Qwen2ForCausalLM(text), image_token_id=image_token_id
    )
    for layer in (model.projector.linear_1, model.projector.linear_2):
        torch.nn.init.normal_(layer.weight, std=0.5)
    return model.eval()


@pytest.fixture(scope="session")
def engine_model():
    """``(model, processor)`` with random weights."""
    from laco_export.models import LacoProcessor
    from laco_export.models.encoders import encoder_spec
    from laco_export.models.processing import LacoImageProcessor

    tokenizer = _tokenizer()
    model = _model(
        tokenizer.convert_tokens_to_ids("<|image_pad|>"), tokenizer.convert_tokens_to_ids(EOS), len(tokenizer)
    )
    preprocessing = encoder_spec("aimv2_vision_model").preprocessing(model.config.vision_config)
    processor = LacoProcessor(
        LacoImageProcessor(**preprocessing.to_dict()), tokenizer, image_seq_length=model.tokens_per_image
    )
    return model, processor


def _export_vision(model, folder: Path, batch: int):
    import torch

    from laco_export.bundle import TensorSpec, VisionGraph
    from laco_export.quiet import quiet_libraries

    class Tower(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, pixel_values):
            return self.model.get_image_features(pixel_values)

    name = f"vision_b{batch}.onnx"
    example = torch.zeros(batch, 3, 56, 56)
    with quiet_libraries(), torch.no_grad():
        program = torch.onnx.export(
            Tower(),
            (example,),
            dynamo=True,
            verbose=False,
            input_names=["pixel_values"],
            output_names=["image_features"],
        )
    program.save(folder / name, external_data=True)
    shape = (batch, model.tokens_per_image, model.config.text_config.hidden_size)
    return VisionGraph(
        name,
        batch,
        TensorSpec("pixel_values", "float32", tuple(example.shape)),
        TensorSpec("image_features", "float32", shape),
    )


@pytest.fixture(scope="session")
def bundle_folder(engine_model, tmp_path_factory) -> Path:
    """An FP32 bundle of ``engine_model`` with vision graphs for one and for two pictures."""
    from laco_export import __version__
    from laco_export.bundle import Manifest, Vision, write_manifest
    from laco_export.exporter.decoder import export_decoder

    model, processor = engine_model
    folder = tmp_path_factory.mktemp("bundle") / "tiny-at1_2-fp32"
    folder.mkdir()
    graphs = [_export_vision(model, folder, batch) for batch in (1, 2)]
    decoder = export_decoder(
        model.language_model,
        image_token_id=model.config.image_token_id,
        eos_token_ids=[model.config.text_config.eos_token_id],
        output_folder=folder,
        generation_config=model.generation_config,
    )
    processor.save_pretrained(folder)
    np.savez(folder / "golden.npz", nothing=np.zeros(1))
    write_manifest(
        folder,
        Manifest(
            tool_version=__version__,
            libraries={},
            source={"name": "tiny", "sha256": "0" * 64},
            encoder={"model_type": "aimv2_vision_model", "num_blocks": 4},
            compression={"method": "laco", "depth": "1/2", "block": 2, "ratio": 2},
            vision=Vision(graphs=graphs, weights="vision.data", opset=20, ir_version=10, precision="fp32"),
            preprocessing=processor.image_processor.preprocessing.to_dict(),
            golden="golden.npz",
            accuracy={"image_features": {"cosine": 1.0, "max_abs": 1e-6}},
            decoder=decoder,
        ),
    )
    return folder


@pytest.fixture(scope="session")
def bundle(bundle_folder):
    from laco_export.bundle import open_bundle

    return open_bundle(bundle_folder)


@pytest.fixture(scope="session")
def answerer(bundle):
    from laco_engines.answering import Answerer

    return Answerer(bundle, threads=1)


@pytest.fixture
def rewritten(bundle_folder, tmp_path):
    """``rewritten(**changes)``: a copy of the bundle whose manifest has other fields, with a valid digest."""
    import shutil

    from laco_export.bundle import read_manifest, write_manifest

    def make(**changes) -> Path:
        folder = tmp_path / "rewritten"
        shutil.copytree(bundle_folder, folder)
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
