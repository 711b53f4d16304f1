"""Weight files of forms that no model has are refused from their headers."""

import json
import time

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from laco_export import weight_files
from laco_export.errors import CheckpointError


def stored(folder, header: bytes, data: bytes = b""):
    """A folder whose weight file has this header."""
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + data)
    return folder


@pytest.mark.parametrize("dtype", [torch.int8, torch.int32, torch.complex64, torch.float8_e4m3fn])
def test_weights_that_are_no_floats(tmp_path, dtype):
    tensors = {"a.position_ids": torch.arange(4), "b.weight": torch.zeros(2, 2, dtype=dtype)}
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="no float numbers") as error:
        weight_files.find(tmp_path)
    assert error.value.given.startswith("b.weight of ")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_floats_are_taken_and_integers_beside_them(tmp_path, dtype):
    save_file(
        {"position_ids": torch.arange(4), "b.weight": torch.zeros(2, dtype=dtype)}, tmp_path / "model.safetensors"
    )
    assert weight_files.find(tmp_path) == [tmp_path / "model.safetensors"]


def test_a_header_of_99_megabytes_is_not_read(tmp_path):
    stored(tmp_path, b'{"__metadata__":{"a":"' + b"x" * 99_000_000 + b'"}}')
    start = time.process_time()
    with pytest.raises(CheckpointError, match="header") as error:
        weight_files.find(tmp_path)
    assert "99,000,0" in error.value.given
    assert time.process_time() - start < 1  # reading it as JSON takes longer than refusing it


@pytest.mark.parametrize(
    "header",
    [b"[" * 100_000, b'{"a":' * 100_000, b"{", b"[]", b"null", b'{"a": 1}', b'{"a": {}}', b"\xff\xfe", b""],
)
def test_a_header_that_is_none(tmp_path, header):
    with pytest.raises(CheckpointError, match="damaged or cut off"):
        weight_files.find(stored(tmp_path, header))


def test_a_file_that_is_cut_off(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(np.int64(1000).tobytes() + b"{}")
    with pytest.raises(CheckpointError, match="damaged or cut off"):
        weight_files.find(tmp_path)


@pytest.mark.parametrize("place", ["", "text_config", "vision_config"])
def test_more_layers_than_tensors(tmp_path, place):
    save_file({"a.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    layers = {"num_hidden_layers": 1_000_000}
    (tmp_path / "config.json").write_text(json.dumps({place: layers} if place else layers))
    with pytest.raises(CheckpointError, match="not those that its config") as error:
        weight_files.find(tmp_path)
    assert "1,000,000" in error.value.given


def test_nested_json(tmp_path):
    (tmp_path / "config.json").write_text('{"a":' * 100_000)
    with pytest.raises(CheckpointError, match="nested too deeply"):
        weight_files.read_json(tmp_path / "config.json")


@pytest.mark.parametrize("place", ["", "text_config", "vision_config"])
def test_a_million_layers_are_refused_before_a_configuration_is_made(tmp_path, place):
    layers = {"num_hidden_layers": 1_000_000}
    values = {place: layers} if place else layers
    with pytest.raises(CheckpointError, match="more layers than any has") as error:
        weight_files.refuse_many_layers(tmp_path, values)
    assert "1,000,000" in error.value.given
    weight_files.refuse_many_layers(tmp_path, {"num_hidden_layers": 96, "text_config": None})
