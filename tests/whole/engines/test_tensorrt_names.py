"""Every TensorRT name that the code touches exists in each supported version (``.ci/tensorrt_names.py``)."""

import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
SCRIPT = runpy.run_path(str(ROOT / ".ci" / "tensorrt_names.py"))
STANDARD = SCRIPT["STANDARD"]


def test_no_name_is_missing():
    assert SCRIPT["check"]() == []


@pytest.mark.parametrize(
    ("planted", "lacking"),
    [
        ("trt.BuilderFlag.FP16", {"tensorrt-11.4"}),
        ("trt.NetworkDefinitionCreationFlag.EXPLICIT_BATCH", {"tensorrt-11.4"}),
        ("trt.IInt8EntropyCalibrator2", {"tensorrt-11.4"}),
        ("engine.device_memory_size", {"tensorrt-11.4"}),
        ("engine.create_runtime_config()", {"tensorrt-10.3"}),
        ("engine.create_execution_context().execute_async_v2", set(STANDARD)),
        ("engine.create_execution_context(config=1)", set(STANDARD)),
        ("trt.Runtime(None).deserialize_cuda_engine(b'').get_binding_name", set(STANDARD)),
        ("engine.num_io_tensors", set()),
    ],
)
def test_a_planted_name_is_found_where_a_version_lacks_it(planted, lacking):
    source = f"def f(engine: trt.ICudaEngine):\n    {planted}\n"
    levels = {
        level
        for level in STANDARD
        if SCRIPT["names_of"](source, SCRIPT["load_level"](level), {"*": STANDARD}, level).missing
    }
    assert levels == lacking


def test_a_name_planted_in_the_real_source_fails_the_script(tmp_path):
    for path in SCRIPT["SOURCES"]:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text((ROOT / path).read_text())
    target = tmp_path / "engines/runtimes/tensorrt_engine.py"
    line = "self._runtime: trt.Runtime = "
    assert line in target.read_text()
    target.write_text(target.read_text().replace(line, "self._trt.BuilderFlag.FP16; " + line))
    problems = SCRIPT["check"](tmp_path)
    assert len(problems) == 2  # 11.4 and RTX
    assert all("BuilderFlag.FP16" in problem for problem in problems)


@pytest.mark.parametrize("level", STANDARD)
def test_the_build_through_polygraphy_touches_only_what_a_version_has(level, tmp_path):
    """The real build process and the real Polygraphy on the names of each version (a stand-in: nothing is built)."""
    (tmp_path / "g.onnx").write_bytes(b"read by a stand-in")
    log, request = tmp_path / "touched", {
        "graph": str(tmp_path / "g.onnx"),
        "library": "tensorrt",
        "output": str(tmp_path / "g.engine"),
        "workspace_bytes": 1 << 30,
        "optimization_level": 3,
        "compute_capabilities": [],
        "timing_cache": str(tmp_path / "timing"),
    }  # fmt: skip
    environment = {
        **os.environ,
        "POLYGRAPHY_USE_TENSORRT_RTX": "0",
        "PYTHONPATH": str(ROOT / "tests/assets/tensorrt-stand-in"),
        "LACO_STAND_IN_LEVEL": level,
        "LACO_STAND_IN_LOG": str(log),
    }
    command = [sys.executable, "-m", "laco_export.exporter.engine_builder", json.dumps(request)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    built = json.loads(done.stdout.splitlines()[-1])
    assert built["version"] == SCRIPT["load_level"](level)["version"]
    assert (tmp_path / "g.engine").read_bytes() == b"no engine: a stand-in"
    assert (tmp_path / "timing").read_bytes() == b"timing"
    touched = log.read_text().split("\n")
    assert "Builder.create_network flags=STRONGLY_TYPED" in touched
    for name in ("IBuilderConfig.set_memory_pool_limit", "IBuilderConfig.builder_optimization_level=",
                 "IBuilderConfig.set_timing_cache", "Builder.build_serialized_network"):  # fmt: skip
        assert name in touched
