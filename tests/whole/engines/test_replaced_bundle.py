"""A bundle that is replaced or changed while a process uses it: one model answers, or none."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import laco_engines.answering as answering
from laco_engines.answering import Answerer
from laco_engines.building import builder
from laco_engines.building.build_device import BuildDevice
from laco_engines.comparison.golden_check import check_golden
from laco_engines.devices.cuda import CudaDevice
from laco_engines.runtimes import open_runtime
from laco_export import atomic
from laco_export.bundle import open_bundle, read_manifest, write_manifest
from laco_export.exporter.engine_builder import BuiltEngine
from laco_export.golden import read_golden
from laco_export.verified_files import BundleChangedError


@pytest.fixture
def folder(bundle_folder, tmp_path):
    return shutil.copytree(bundle_folder, tmp_path / "bundle")


@pytest.fixture
def replace(folder, tmp_path):
    """``replace()``: what ``laco-export --force`` does at its end, with a bundle of other weights in every part."""
    other = shutil.copytree(folder, tmp_path / "other")
    for name in ("vision.data", "llm/model.onnx_data"):
        weights = np.fromfile(other / name, np.float32)
        (-weights).tofile(other / name)
    write_manifest(other, read_manifest(other))
    return lambda: atomic.exchange(other, folder)


def pixels_of(bundle, count):
    golden = read_golden(bundle)
    prepare = bundle.manifest.image_preprocessing
    return np.stack([prepare.normalize(picture) for picture in golden.pictures[:count]])


def test_what_was_loaded_goes_on_and_nothing_of_the_new_bundle_is_opened(folder, replace, answerer, make_picture):
    live = Answerer(open_bundle(folder), threads=1)
    one, two = [make_picture(7)], [make_picture(8), make_picture(9)]
    replace()
    fresh = Answerer(open_bundle(folder), threads=1)
    for pictures in (one, two, one):  # the graph for two was not opened before
        ask = {"max_new_tokens": 8, "output_scores": True}
        expected = answerer.answer(pictures, "What is it?", **ask)
        actual = live.answer(pictures, "What is it?", **ask)
        assert actual.token_ids == expected.token_ids
        np.testing.assert_allclose(
            [step.logit for step in actual.scores], [step.logit for step in expected.scores], atol=1e-3
        )
        assert fresh.answer(pictures, "What is it?", **ask).scores[0].logit != pytest.approx(
            expected.scores[0].logit, abs=1e-2
        )
    assert live.vision.batch_sizes == [1]
    assert "was replaced or changed" in live.vision.passed_over[-1]
    assert live.bundle.is_replaced() and not fresh.bundle.is_replaced()


def test_encoding_alone_goes_on_with_what_is_open(folder, replace, bundle):
    vision, pixels = open_runtime(open_bundle(folder), name="onnxruntime-cpu"), pixels_of(bundle, 3)
    replace()
    expected = open_runtime(bundle, name="onnxruntime-cpu").encode(pixels)
    np.testing.assert_allclose(vision.encode(pixels), expected, atol=1e-4)


OPENED = [
    "vision_b1.onnx",
    "vision.data",
    "tokenizer.json",
    "processor_config.json",
    "llm/config.json",
    "llm/generation_config.json",
    "llm/model.onnx",
    "llm/model.onnx_data",
]


@pytest.mark.parametrize("name", OPENED)
def test_a_file_that_is_zeroed_between_verification_and_opening_is_refused(folder, name):
    bundle = open_bundle(folder)
    path = folder / name
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(BundleChangedError, match="was replaced or changed after it was verified") as refusal:
        Answerer(bundle, threads=1)
    assert name in refusal.value.given


@pytest.mark.parametrize("part", ["open_runtime", "PrefixCache"])
def test_a_bundle_that_is_replaced_while_it_is_opened_is_refused(folder, replace, monkeypatch, part):
    bundle, opening = open_bundle(folder), getattr(answering, part)

    def open_and_replace(*arguments, **options):
        opened = opening(*arguments, **options)
        replace()
        return opened

    monkeypatch.setattr(answering, part, open_and_replace)
    if part == "open_runtime":  # before the language model is opened
        with pytest.raises(BundleChangedError):
            Answerer(bundle, threads=1)
    else:  # after all was opened
        assert Answerer(bundle, threads=1).bundle.is_replaced()


def test_a_comparison_is_with_the_golden_file_that_was_verified(folder, replace):
    bundle = open_bundle(folder)
    runtime = open_runtime(bundle, name="onnxruntime-cpu")
    path = folder / "golden.npz"
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(BundleChangedError):
        check_golden(bundle, runtime)


def test_an_engine_that_was_built_meanwhile_is_not_kept(folder, replace, engine_cache, monkeypatch):
    """Its key would name the old graph."""
    bundle = open_bundle(folder)
    gpu = CudaDevice("NVIDIA H200", 90, 140 << 30, 139 << 30, False, "12.6")

    def build_and_replace(request, **_):
        Path(request.output).write_bytes(b"an engine")
        replace()
        return BuiltEngine("10.3.0", 1.0, 1 << 20, ())

    monkeypatch.setattr(builder, "build_engine", build_and_replace)
    with pytest.raises(BundleChangedError):
        builder.build_bundle(bundle, BuildDevice("tensorrt", "10.3.0", gpu, (), None), builder.BuildOptions())
    assert [path for path in engine_cache.folder.rglob("*") if path.suffix in (".engine", ".json")] == []
