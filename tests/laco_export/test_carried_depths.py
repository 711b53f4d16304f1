"""A bundle of several depths: each is as a bundle of its own, and a manifest that mixes them up is refused."""

import copy
import dataclasses
import json

import pytest

from laco_export import bundle as bundles
from laco_export.bundle import Bundle, FurtherDepth, open_bundle, read_manifest, write_manifest
from laco_export.carried_depths import UNMERGED, find_depth
from laco_export.errors import BundleError, DepthError
from laco_export.manifest_schema import MANIFEST as MANIFEST_FIELDS

from .test_bundle import FILES, MANIFEST, sealed

PATH = {
    "method": "laco",
    "depth": "1/4+3/4",
    "block": 1,
    "ratio": 4,
    "tokens_before": 16,
    "tokens_after": 1,
    "merges": [{"block": 1, "ratio": 2, "tokens_after": 4}, {"block": 3, "ratio": 2, "tokens_after": 1}],
}
DEPTH_FILES = {
    "vision_at1_4_b1.onnx": b"a quarter",
    "golden_at1_4.npz": b"golden, a quarter",
    "vision_at1_4+3_4_b1.onnx": b"a path",
    "golden_at1_4+3_4.npz": b"golden, a path",
}


def alone(slug, compression, grid):
    """The manifest of :data:`MANIFEST`'s model at another depth."""
    first = MANIFEST.vision.graphs[0]
    output = dataclasses.replace(first.output, shape=(1, grid[0] * grid[1], 8))
    graph = dataclasses.replace(first, file=f"vision_at{slug}_b1.onnx", output=output)
    flops = {"total": 1e6 * grid[0]}
    vision = dataclasses.replace(MANIFEST.vision, graphs=[graph], token_grid=grid, kept_fp32=[], flops=flops)
    accuracy = {"tensors": [{"name": slug, "cosine": 0.5, "norm_ratio": 1, "max_abs": 1}]}
    return dataclasses.replace(
        MANIFEST,
        compression=compression,
        vision=vision,
        golden=f"golden_at{slug}.npz",
        accuracy={**accuracy, "decoder": {"prompt_tokens": 5}},
        notes=[f"of {slug}"],
    )


FIRST = dataclasses.replace(
    MANIFEST,
    accuracy={**MANIFEST.accuracy, "decoder": {"prompt_tokens": 5}},
    vision=dataclasses.replace(MANIFEST.vision, flops={"total": 4e6}),
)
QUARTER = alone("1_4", {**MANIFEST.compression, "depth": "1/4", "block": 1}, (2, 2))
TWICE = alone("1_4+3_4", PATH, (1, 1))


@pytest.fixture
def folder(tmp_path):
    """A bundle of three depths."""
    path = tmp_path / "bundle"
    for name, content in {**FILES, **DEPTH_FILES}.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    write_manifest(path, FIRST.joined_with([QUARTER, TWICE]))
    return path


OWN_FILES = [
    {"vision_b1.onnx", "golden.npz"},
    {"vision_at1_4_b1.onnx", "golden_at1_4.npz"},
    {"vision_at1_4+3_4_b1.onnx", "golden_at1_4+3_4.npz"},
]
"""Of the three depths, in their order."""


def of_the_bundle(manifest, folder):
    """As it would be read from a bundle of this depth alone, with the files that it reads."""
    others = {name for own in OWN_FILES for name in own} - {manifest.golden, manifest.vision.graphs[0].file}
    files = {name: entry for name, entry in read_manifest(folder).files.items() if name not in others}
    return dataclasses.replace(manifest, files=files)


def test_each_depth_is_as_a_bundle_of_its_own(folder):
    bundle = open_bundle(folder)
    assert bundle.depths == ("1/2", "1/4", "1/4+3/4")
    for depth, manifest in zip(bundle.depths, (FIRST, QUARTER, TWICE)):
        view = bundle.at(depth)
        assert view.manifest == of_the_bundle(manifest, folder)
        assert view.depths == (depth,)
        assert {"vision.data", "llm/model.onnx_data"} < set(view.manifest.files)
        assert view == open_bundle(folder, depth)
        assert view.read(view.manifest.golden) == {**FILES, **DEPTH_FILES}[manifest.golden]
        assert not view.is_replaced()
    assert bundle.at(None) == bundle.at("1/2")
    assert bundle.manifest.compression == FIRST.compression


def test_a_depth_asks_for_its_own_files_alone(folder):
    bundle = open_bundle(folder)
    (folder / "vision_at1_4_b1.onnx").write_bytes(b"damaged")
    bundle.at("1/2").require_unchanged()
    open_bundle(folder, "1/2")
    with pytest.raises(BundleError, match="vision_at1_4_b1"):
        bundle.at("1/4").require_unchanged()
    with pytest.raises(BundleError, match="vision_at1_4_b1"):
        open_bundle(folder)


def test_what_is_the_same_for_all_depths_is_written_once(folder):
    document = json.loads((folder / "laco.json").read_text(encoding="utf-8"))
    assert document["schema_version"] == 3  # readers from before would take the first depth for the only one
    assert all("decoder" not in further["accuracy"] for further in document["depths"])
    assert document["accuracy"]["decoder"] == {"prompt_tokens": 5}


def test_a_further_depth_says_what_the_schema_has_of_it():
    record = MANIFEST_FIELDS.optional["depths"].content
    assert {*record.required, *record.optional} == set(FurtherDepth.__dataclass_fields__)


def test_an_ordinary_manifest_is_written_as_before(folder):
    write_manifest(folder, FIRST)
    document = json.loads((folder / "laco.json").read_text(encoding="utf-8"))
    assert (document["schema_version"], "depths" in document) == (1, False)
    assert open_bundle(folder).depths == ("1/2",)
    assert open_bundle(folder).at("1/2") == open_bundle(folder)


def test_one_depth_of_several_can_be_written_alone(folder):
    alone = open_bundle(folder).at("1/4").manifest
    write_manifest(folder, alone)
    assert json.loads((folder / "laco.json").read_text(encoding="utf-8"))["schema_version"] == 1
    assert dataclasses.replace(open_bundle(folder).manifest, files=alone.files) == alone


@pytest.mark.parametrize(
    ("asked", "index"),
    [("1/2", 0), ("0.5", 0), ("block:2", 0), (" 1/4 ", 1), ("block:1", 1), ("0.25+0.75", 2), ("block:1+block:3", 2)],
)
def test_a_depth_is_found_by_any_of_its_names(asked, index):
    assert find_depth([FIRST.compression, QUARTER.compression, PATH], asked) == index


@pytest.mark.parametrize("asked", ["1", "block:3", "1/2+3/4", UNMERGED])
def test_a_depth_that_is_not_carried_is_told_with_those_that_are(folder, asked):
    with pytest.raises(DepthError) as caught:
        open_bundle(folder, asked)
    assert "1/2, 1/4, 1/4+3/4" in str(caught.value)
    with pytest.raises(DepthError):
        open_bundle(folder).at(asked)


@pytest.mark.parametrize("asked", ["half", "2", "1/0", "", "block:0"])
def test_what_is_no_depth_is_refused(folder, asked):
    with pytest.raises(DepthError, match="allowed"):
        open_bundle(folder).at(asked)


def test_a_tower_that_merges_nothing_has_a_name_too():
    compression = {**MANIFEST.compression, "method": None, "depth": None, "block": None, "ratio": 1}
    bundle = Bundle(None, dataclasses.replace(MANIFEST, compression=compression))
    assert bundle.depths == (UNMERGED,)
    assert bundle.at(UNMERGED) == bundle.at(None) == bundle
    with pytest.raises(DepthError, match=UNMERGED):
        bundle.at("1/2")


@pytest.mark.parametrize(
    ("place", "value", "named"),
    [
        (("depths",), [], "depths"),
        (("depths", 0, "compression", "depth"), "1/2", "depths[0].compression.depth"),
        (("depths", 0, "compression", "block"), 2, "depths[0].compression.depth"),  # the first's block
        (("depths", 0, "compression", "depth"), "soon", "depths[0].compression.depth"),
        (("depths", 0, "compression", "depth"), None, "depths[0].compression.depth"),
        (("depths", 0, "compression", "method"), "ldpv2", "depths[0].compression.method"),
        (("depths", 0, "compression", "tokens_before"), 25, "depths[0].compression.tokens_before"),
        (("depths", 1, "compression", "ratio"), 2, "depths[1].compression.ratio"),
        (("depths", 0, "vision", "graphs", 0, "file"), "vision_b1.onnx", "depths[0].vision.graphs[0].file"),
        (("depths", 0, "vision", "graphs", 0, "file"), "gone.onnx", "depths[0].vision.graphs[0].file"),
        (("depths", 0, "vision", "weights"), "gone.data", "depths[0].vision.weights"),
        (("depths", 0, "vision", "token_grid"), [3, 3], "depths[0].vision.graphs[0].output.shape"),
        (("depths", 0, "vision", "token_layout"), "internvl", "depths[0].vision"),
        (("depths", 0, "vision", "flops"), {}, "depths[0].vision.flops"),
        (("depths", 0, "golden"), "golden.npz", "depths[0].golden"),
        (("depths", 1, "golden"), "golden_at1_4.npz", "depths[1].golden"),
        (("depths", 1, "golden_answers"), "gone.npz", "depths[1].golden_answers"),
        (("depths", 0, "accuracy"), None, "depths[0].accuracy"),
        (("compression", "method"), None, "compression.method"),
        (("compression", "block"), None, "compression.block"),
    ],
    ids=str,
)
def test_depths_that_do_not_belong_together_are_refused(folder, place, value, named):
    sealed(folder, place, value)
    with pytest.raises(BundleError) as caught:
        open_bundle(folder)
    assert named in str(caught.value)


def test_a_depth_of_another_width_is_refused(folder):
    document = json.loads((folder / "laco.json").read_text(encoding="utf-8"))
    graphs = copy.deepcopy(document["depths"][0]["vision"]["graphs"])
    graphs[0]["output"]["shape"][-1] = 16
    sealed(folder, ("depths", 0, "vision", "graphs"), graphs)
    with pytest.raises(BundleError, match=r"depths\[0\].vision.graphs\[0\].output.shape"):
        open_bundle(folder)


def test_what_no_reader_takes_is_not_written(folder):
    before = (folder / bundles.MANIFEST_NAME).read_bytes()
    with pytest.raises(BundleError, match=r"depths\[0\].compression.depth"):
        write_manifest(folder, FIRST.joined_with([dataclasses.replace(QUARTER, compression=FIRST.compression)]))
    assert (folder / bundles.MANIFEST_NAME).read_bytes() == before
