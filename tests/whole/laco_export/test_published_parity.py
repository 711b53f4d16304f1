"""An imported model is the published one: token ids and logits are those of transformers' own classes on the same
folder, for each family and kind of prompt. What no other test sees, the projector and the way of a feature into the
prompt, is seen here; mistakes of that kind, planted, are told.
"""

import dataclasses
import shutil

import numpy as np
import pytest
import torch
from published_folders import FAMILIES, TAKES_VIDEOS, change_json, rename_tensors
from published_parity import CASES, TOLERANCE, difference, inputs_of

from laco_export import token_layouts
from laco_export.models.published import read_published
from laco_export.tiling import Tiling


@pytest.mark.parametrize(
    ("family", "case"),
    [(family, case) for family in FAMILIES for case in CASES if case != "a video" or family in TAKES_VIDEOS],
)
def test_logits_are_those_of_transformers(imported, family, case):
    theirs, ours = imported(family)
    assert difference(theirs, ours.model, ours.processor, CASES[case]) < TOLERANCE
    assert ours.remarks == ()


@pytest.mark.parametrize("case", ["wide", "several pictures"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_pixel_values_are_those_of_transformers(imported, family, case):
    """To the last bit: both resize by Pillow."""
    theirs, ours = imported(family)
    expected, given = inputs_of(theirs, ours.processor, CASES[case])
    values = expected["pixel_values"]
    if values.ndim == 5:  # a picture of fewer tiles than another is filled up
        counts = [plan.tiles for plan in ours.processor.token_layouts(given["image_sizes"].tolist())]
        values = torch.cat([tiles[:count] for tiles, count in zip(values, counts, strict=True)])
    assert torch.equal(values, given["pixel_values"])


def another_order(self, image, preprocessing, split=Tiling.split):
    return split(self, image, preprocessing)[::-1].copy()


def swapped(name, tensor):
    ends = {"q_proj.": "k_proj.", "k_proj.": "q_proj."}
    found = next((end for end in ends if "vision_tower" in name and end in name), None)
    return {name.replace(found, ends[found]) if found else name: tensor}


FOLDER_FAULTS = {
    "another activation": lambda folder: change_json(folder / "config.json", projector_hidden_act="relu"),
    "query and key exchanged": lambda folder: rename_tensors(folder, swapped),
}


@pytest.mark.parametrize("fault", FOLDER_FAULTS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_wrong_import_is_told(imported, tmp_path, family, fault):
    theirs, _ = imported(family)
    folder = shutil.copytree(theirs.folder, tmp_path / "folder")
    FOLDER_FAULTS[fault](folder)
    wrong = read_published(folder)
    assert difference(theirs, wrong.model, wrong.processor, CASES["one picture"]) > 100 * TOLERANCE


@pytest.mark.parametrize(("family", "layer"), [("llava", -1), ("llava_next", -3), ("llava_onevision", -2)])
def test_another_feature_layer_is_told(imported, tmp_path, family, layer):
    theirs, _ = imported(family)
    folder = shutil.copytree(theirs.folder, tmp_path / "folder")
    change_json(folder / "config.json", vision_feature_layer=layer)
    wrong = read_published(folder)
    assert difference(theirs, wrong.model, wrong.processor, CASES["one picture"]) > 100 * TOLERANCE


@pytest.mark.parametrize("family", ["llava_next", "llava_onevision", "internvl"])
def test_another_order_of_tiles_is_told(imported, monkeypatch, family):
    theirs, ours = imported(family)
    monkeypatch.setattr(Tiling, "split", another_order)
    assert difference(theirs, ours.model, ours.processor, CASES["wide"]) > 100 * TOLERANCE


@pytest.mark.parametrize(
    ("family", "case"),
    [("llava_onevision", "several pictures"), ("llava_onevision", "a video")],
)
def test_a_newline_that_is_left_out_is_told(imported, monkeypatch, family, case):
    theirs, ours = imported(family)
    monkeypatch.setattr(token_layouts, "ends_in_newline", lambda layout, grid: layout)
    assert difference(theirs, ours.model, ours.processor, CASES[case]) == np.inf


@pytest.mark.parametrize("family", ["llava_next", "llava_onevision"])
def test_another_newline_is_told(imported, monkeypatch, family):
    theirs, ours = imported(family)
    monkeypatch.setattr(ours.model.image_newline, "data", torch.zeros_like(ours.model.image_newline))
    assert difference(theirs, ours.model, ours.processor, CASES["wide"]) > 100 * TOLERANCE


def test_rows_without_newlines_are_told(imported, monkeypatch):
    theirs, ours = imported("llava_onevision")
    layout = token_layouts.tiled_layout

    def without(*given):
        whole = layout(*given)
        kept = whole.indices[:, 0] != whole.indices.max()
        return dataclasses.replace(whole, indices=whole.indices[kept], weights=whole.weights[kept])

    monkeypatch.setattr(token_layouts, "tiled_layout", without)
    assert difference(theirs, ours.model, ours.processor, CASES["wide"]) == np.inf
