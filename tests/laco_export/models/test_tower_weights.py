"""A tower without its language model, and the way back into a checkpoint."""

import gc
import sys
from pathlib import Path

import pytest
import torch

from laco_export import weight_files
from laco_export.models import checkpoint
from laco_export.models.tower_weights import let_go_of_tower, take_tower, updated_tensors


@pytest.fixture(scope="module", params=["aimv2", "siglip", "clip", "internvit"])
def folder(request, make_tiny_model, make_tiny_checkpoint, tmp_path_factory):
    model = make_tiny_model(request.param, method=None).to(torch.bfloat16)
    return make_tiny_checkpoint(model, tmp_path_factory.mktemp("checkpoints") / "whole")


def test_a_tower_alone_gives_the_whole_models_features(folder):
    """Buffers that no file holds too: SigLIP's positions are one."""
    whole, alone = checkpoint.load(folder), checkpoint.load(folder, without_language_model=True)
    pixels = torch.randn(2, 3, 56, 56)
    with torch.no_grad():
        assert torch.equal(alone.model.get_image_features(pixels), whole.model.get_image_features(pixels))
    assert alone.sha256 == whole.sha256 and alone.checked
    assert {tensor.device.type for tensor in alone.model.language_model.state_dict().values()} == {"meta"}


def test_what_was_not_changed_goes_back_bit_for_bit(folder, tmp_path):
    alone = checkpoint.load(folder, without_language_model=True)
    with torch.no_grad():
        alone.model.projector.linear_1.bias[0] += 1
    tensors = updated_tensors(weight_files.find(folder), alone.model)
    assert {n for n, tensor in tensors.items() if tensor.dtype != torch.bfloat16} == {"projector.linear_1.bias"}
    checkpoint.save(alone.model, alone.processor, tmp_path / "out", state_dict=tensors)
    before, after = (checkpoint.load(path).model.state_dict() for path in (folder, tmp_path / "out"))
    assert before.keys() == after.keys()
    assert {n for n in before if not torch.equal(before[n], after[n])} == {"projector.linear_1.bias"}
    assert sorted(p.name for p in folder.iterdir()) == sorted(p.name for p in (tmp_path / "out").iterdir())


def test_a_tower_that_was_let_go_takes_no_memory_and_comes_back(folder):
    """Whoever else holds a parameter, as onnxscript's rules do after a trace, holds nothing of its size."""
    alone = checkpoint.load(folder, without_language_model=True)
    pixels, before = torch.randn(1, 3, 56, 56), dict(alone.model.named_buffers())
    with torch.no_grad():
        expected = alone.model.get_image_features(pixels)
    held = [*alone.model.vision_model.parameters(), *alone.model.projector.parameters()]
    let_go_of_tower(alone.model)
    assert {parameter.device.type for parameter in alone.model.parameters()} == {"meta"}
    assert sum(parameter.untyped_storage().nbytes() for parameter in held) == 0
    assert dict(alone.model.named_buffers()) == before  # which no file holds
    take_tower(alone.model, weight_files.find(folder))
    with torch.no_grad():
        assert torch.equal(alone.model.get_image_features(pixels), expected)


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: /proc/self/maps")
def test_a_mapped_tower_is_unmapped_when_it_is_let_go(make_tiny_model, make_tiny_checkpoint, tmp_path):
    folder = make_tiny_checkpoint(make_tiny_model("aimv2", method=None), tmp_path / "fp32")
    mapped = lambda: str(folder / "model.safetensors") in Path("/proc/self/maps").read_text()
    alone = checkpoint.load(folder, without_language_model=True, mapped=True)
    assert mapped()
    let_go_of_tower(alone.model)
    gc.collect()
    assert not mapped()
