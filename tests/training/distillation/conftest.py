"""Fixtures of the distillation tests: a teacher of four blocks, pictures, and a stage of a few steps."""

import sys
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1]))

from one_thread import one_thread  # noqa: F401

RATES = {"compressor": 2e-3, "encoder": 1e-3}


@pytest.fixture(scope="session")
def make_pair(make_tiny_model):
    """``make_pair(at, kind="aimv2", grid=(5, 5), **options)``: a teacher and the student that it becomes."""
    from laco_export.models.merging import merge_inside

    def make(at="1/2", kind="aimv2", grid=(5, 5), ratio=2, **options):
        teacher = make_tiny_model(kind, blocks=4, grid=grid, method=None, **options)
        return teacher, merge_inside(teacher, at, ratio=ratio)

    return make


@pytest.fixture(scope="session")
def teacher_folder(make_tiny_model, make_tiny_checkpoint, tmp_path_factory):
    """A teacher on disk in bfloat16, as published models are."""
    import torch

    model = make_tiny_model(blocks=4, method=None).to(torch.bfloat16)
    return make_tiny_checkpoint(model, tmp_path_factory.mktemp("teachers") / "teacher")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    """A folder with ``pictures/0.png`` … ``39.png``: smooth noise of several sizes."""
    folder = tmp_path_factory.mktemp("distil-data")
    (folder / "pictures").mkdir()
    random = np.random.default_rng(0)
    for index in range(40):
        grain = Image.fromarray(random.integers(0, 255, (6, 6, 3), dtype=np.uint8))
        grain.resize((50 + index, 70), Image.Resampling.BICUBIC).save(folder / "pictures" / f"{index}.png")
    return folder


@pytest.fixture(scope="session")
def make_stage():
    """``make_stage(rates=…, distillation={…}, **options)``: a recipe's stage ``distil``."""
    from laco_training.distillation.recipe import DistillationRecipe
    from laco_training.recipe import StageRecipe

    def make(rates=RATES, distillation=None, **options):
        sizes = {"global_batch_size": 8, "per_device_batch_size": 4, "precision": "fp32", "max_length": 256}
        recipe = DistillationRecipe(**{"held_out": 4, **(distillation or {})})
        return StageRecipe(**{"data": "pictures", "learning_rates": rates, "distillation": recipe, **sizes, **options})

    return make


class Interrupted(BaseException):
    """What a killed process leaves is what one leaves that stops here."""


@pytest.fixture(scope="session")
def interrupting():
    """``interrupting(at)``: a progress bar that stops the training at optimiser step ``at``; and what it raises."""

    def make(at):
        done = [0]

        def advance(steps, **_):
            done[0] += steps
            if done[0] == at:
                raise Interrupted

        return lambda steps: nullcontext(advance)

    make.raised = Interrupted
    return make
