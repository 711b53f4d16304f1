"""Eight bits against their FP16 fallback, on a stand-in device whose engines take as long as the test says.

The stand-ins compute nothing; what is tested is the choice: both are built, timed, the faster one is noted and runs.
"""

import dataclasses
import json
import time

import numpy as np
import pytest

from laco_engines.building import build_device, builder, verification
from laco_engines.building.build_device import BuildDevice
from laco_engines.building.builder import BuildOptions, build_bundle
from laco_engines.building.faster_form import find_faster_forms
from laco_engines.runtimes import TensorRTVision
from laco_engines.store.engine_cache import EngineCache
from laco_engines.store.fallback import fallback_of
from laco_export.bundle import open_bundle
from laco_export.exporter.engine_builder import BuiltEngine


@pytest.fixture
def int8_folder(rewritten, bundle):
    """A bundle that says it is INT8, chosen by accuracy alone, with FP16 graphs beside it."""
    vision = bundle.manifest.vision
    graphs = [dataclasses.asdict(graph) for graph in vision.graphs]
    fallback = {"precision": "fp16", "weights": bundle.manifest.golden, "graphs": graphs}  # another file: another graph
    calibration = {"recipe": "tensorrt", "time": "unmeasured"}
    return rewritten(vision=dataclasses.replace(vision, precision="int8", calibration=calibration, fallback=fallback))


@pytest.fixture
def make_device(stand_in_device, monkeypatch, tmp_path):
    """``make_device(int8_ms, fp16_ms)``: a stand-in device; each engine takes its precision's time."""

    def make(int8_ms, fp16_ms):
        trt, cuda, stand_in = stand_in_device("tensorrt-10.3")
        monkeypatch.setenv("LACO_ENGINE_CACHE", str(tmp_path / "engines"))
        monkeypatch.setattr(build_device, "find_device", lambda: stand_in)
        built = []

        def build_engine(request, **options):
            built.append(request.graph)
            # The stand-in's engines are their batch size; leading zeros tell the second form from the first.
            precision = "fp16" if any(path == request.graph for path in built[:-1]) else "int8"
            batch = request.graph.removesuffix(".onnx")[-1]
            with open(request.output, "w") as file:
                file.write(batch if precision == "int8" else f"0{batch}")
            return BuiltEngine("tensorrt", trt.__version__, 1.0, 1, 1)

        monkeypatch.setattr(builder, "build_engine", build_engine)
        tensors, enqueue = trt.RUN["tensors"], trt.RUN["enqueue"]

        def timed(plan, addresses, stream):
            cuda.enqueue(lambda: time.sleep((fp16_ms if plan.startswith(b"0") else int8_ms) / 1000))
            return enqueue(plan.lstrip(b"0"), addresses, stream)

        trt.RUN.update(tensors=lambda plan: tensors(plan.lstrip(b"0")), enqueue=timed)
        return BuildDevice("tensorrt", trt.__version__, stand_in, (), None), built

    return make


def build_both(folder, device):
    bundle, cache = open_bundle(folder), EngineCache()
    fallback = fallback_of(bundle)
    own = build_bundle(bundle, device, BuildOptions(), cache=cache)
    other = build_bundle(fallback, device, BuildOptions(), cache=cache)
    open_built = lambda form, results: verification.open_engines(form, device, results)
    return bundle, own, find_faster_forms(bundle, fallback, own, other, cache, open_built)


def _encode_seconds(runtime):
    start = time.perf_counter()
    runtime.encode(np.zeros((1, 3, 56, 56), np.float32))
    return time.perf_counter() - start


@pytest.mark.parametrize(("int8_ms", "fp16_ms", "faster"), [(1, 50, "int8"), (50, 1, "fp16")])
def test_the_faster_form_is_noted_and_runs(make_device, int8_folder, monkeypatch, int8_ms, fp16_ms, faster):
    monkeypatch.setattr("laco_engines.building.faster_form.REPEATS", 5)
    device, built = make_device(int8_ms, fp16_ms)
    bundle, _, findings = build_both(int8_folder, device)
    assert len(built) == 4
    assert set(findings) == {1, 2}
    for batch, finding in findings.items():
        assert finding.own_ms >= int8_ms  # a busy machine sleeps longer
        assert finding.fallback_ms >= fp16_ms
        assert finding.summary(batch).endswith(f"{faster} will run")
    runtime = TensorRTVision(bundle)
    assert runtime.precision == faster
    runtime.prepare(1)
    assert min(_encode_seconds(runtime) for _ in range(5)) < 0.05  # of the two, the one that takes 1 ms
    # A second time everything is known: nothing is built and nothing is timed.
    monkeypatch.setattr("laco_engines.building.faster_form._time", None)
    assert build_both(int8_folder, device)[2] == findings
    assert len(built) == 4


def test_the_command_says_which_will_run(make_device, int8_folder, monkeypatch, capsys):
    from laco_engines.cli import main

    monkeypatch.setattr("laco_engines.building.faster_form.REPEATS", 3)
    device, _ = make_device(50, 1)
    monkeypatch.setattr(build_device, "resolve_device", lambda name, capabilities: device)
    assert main(["build", str(int8_folder), "--no-diff"]) == 0
    out = capsys.readouterr().out
    assert out.count("fp16 will run") == 2
    assert main(["build", str(int8_folder), "--no-diff", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert [engine["precision"] for engine in document["engines"]] == ["int8", "int8", "fp16", "fp16"]
    assert {finding["kept"] for finding in document["faster_forms"].values()} == {"fallback"}


def test_wrong_answers_after_a_build_fail_it(make_device, int8_folder, monkeypatch, capsys):
    """The stand-in computes means, not features: the comparison that runs by itself must notice."""
    from laco_engines.cli import main

    device, _ = make_device(0, 0)
    monkeypatch.setattr(build_device, "resolve_device", lambda name, capabilities: device)
    assert main(["build", str(int8_folder)]) == 1
    assert "does not agree with" in capsys.readouterr().out


def test_a_form_that_was_timed_by_the_calibration_has_no_fallback(int8_folder):
    bundle = open_bundle(int8_folder)
    assert fallback_of(bundle).manifest.vision.precision == "fp16"
    measured = dataclasses.replace(bundle.manifest.vision, calibration={"time": "measured"})
    other = dataclasses.replace(bundle, manifest=dataclasses.replace(bundle.manifest, vision=measured))
    assert fallback_of(other) is None
