"""Two processes (gloo, CPU) train what one trains: by DDP, and sharded by FSDP2."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from laco_export.models import checkpoint

WORKER = Path(__file__).with_name("train_as_one_of_several.py")


@pytest.fixture(scope="module")
def teacher(make_tiny_model, make_tiny_checkpoint, tmp_path_factory):
    return make_tiny_checkpoint(make_tiny_model(blocks=4, method=None), tmp_path_factory.mktemp("teachers") / "teacher")


@pytest.fixture(scope="module")
def alone(tiny_checkpoint, stage_data, teacher, tmp_path_factory):
    """The losses of one process with the same global batches, and its folder."""
    spec = importlib.util.spec_from_file_location("train_as_one_of_several", WORKER)
    worker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(worker)
    output = tmp_path_factory.mktemp("alone")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    losses = worker.run(tiny_checkpoint, stage_data, output, teacher)
    torch.set_num_threads(threads)
    return losses, output


def together(kind, tiny_checkpoint, stage_data, output, teacher):
    """The same in two processes."""
    output.mkdir()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", WORKER]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, kind, tiny_checkpoint, stage_data, output, teacher],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads((output / "losses.json").read_text())


def test_two_processes_train_what_one_trains(alone, tiny_checkpoint, stage_data, teacher, tmp_path):
    losses, folder = alone
    losses_of_two = together("ddp", tiny_checkpoint, stage_data, tmp_path / "two", teacher)
    assert len(losses_of_two["everything"]) == 50
    for name, expected in losses.items():
        assert losses_of_two[name] == pytest.approx(expected, abs=1e-4), name
    for name in ("everything", "distilled"):
        same_weights(folder / name, tmp_path / "two" / name, 1e-3)


def test_fsdp_shards_trains_resumes_and_saves_whole_weights(alone, tiny_checkpoint, stage_data, teacher, tmp_path):
    losses, folder = alone
    losses_of_two = together("fsdp", tiny_checkpoint, stage_data, tmp_path / "two", teacher)
    for name in ("first", "mixed"):
        assert losses_of_two[name] == pytest.approx(losses[name], abs=1e-4), name
        same_weights(folder / name, tmp_path / "two" / name, 1e-3)
    assert len(losses_of_two["everything"]) == 8  # another cosine than of fifty steps, interrupted after the fifth
    assert losses_of_two["everything"][0] == pytest.approx(losses["everything"][0], abs=1e-4)
    assert losses_of_two["everything"][-1] < losses_of_two["everything"][0] - 0.1


def same_weights(folder, other, tolerance):
    """Adam divides by gradients' sizes, so that where a gradient is nearly zero its rounding decides the direction."""
    weights, expected = (checkpoint.load(path).model.state_dict() for path in (other, folder))
    assert weights.keys() == expected.keys()
    for name in weights:
        torch.testing.assert_close(weights[name], expected[name], rtol=0, atol=tolerance, msg=name)
