import dataclasses
import json

import pytest

from laco_engines import doctor
from laco_engines.cli import main
from laco_engines.devices.cuda import CudaDevice
from laco_engines.generation.text_runtime import choose_text_runtime


def run(capsys, *arguments):
    code = main(["doctor", *map(str, arguments)])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out


def test_what_is_here(capsys):
    code, out = run(capsys)
    assert code == 0
    assert f"language model  {choose_text_runtime()[0]} on CPUExecutionProvider" in out
    assert "passed over: TensorRT is not installed" in out
    assert out.rstrip().endswith("ready")


def test_with_a_bundle(bundle_folder, capsys):
    code, out = run(capsys, bundle_folder, "--json")
    document = json.loads(out)
    assert code == 0
    assert document["vision"].startswith("onnxruntime ")
    assert document["fit"]["fits"] is True
    assert document["text_runtime"] == choose_text_runtime()[0]
    process_bytes = doctor.PROCESS_BYTES[document["text_runtime"]]
    assert document["fit"]["needed_bytes"] > document["fit"]["process_bytes"] == process_bytes
    # 2 (keys, values) x 4 bytes x 2 layers x 1 head of 16 x the context of 512
    assert document["fit"]["cache_bytes"] == 2 * 4 * 2 * 1 * 16 * 512
    assert document["packages"]["numpy" if "numpy" in document["packages"] else "torch"]


def test_a_bundle_that_does_not_fit(bundle_folder, capsys, monkeypatch):
    monkeypatch.setattr(doctor, "available_memory", lambda: 100 << 20)
    code, out = run(capsys, bundle_folder)
    assert code == 1
    assert "DOES NOT FIT" in out
    assert "--llm int4" in out
    assert out.rstrip().endswith("not ready")


@pytest.fixture
def jetson(monkeypatch):
    """``jetson(jetpack, packages missing)``: this machine as an Orin Nano without TensorRT's Python side."""
    device = CudaDevice("Orin", 87, 8 << 30, 6 << 30, True, "12.6")

    def make(jetpack, missing=("tensorrt",)):
        board = {
            "model": "NVIDIA Jetson Orin Nano Developer Kit", "l4t": "36.4.3", "jetpack": jetpack, "power_mode": None,
            "memory_bytes": 8 << 30, "gpu_clock_mhz": 306.0, "gpu_clock_max_mhz": None,
        }  # fmt: skip
        state = dataclasses.replace(doctor.machine_state(), board=board)
        monkeypatch.setattr(doctor, "machine_state", lambda: state)
        monkeypatch.setattr(doctor, "present_device", lambda: device)
        monkeypatch.setattr(doctor, "installed_version", lambda package: None if package.name in missing else "1")

    return make


def test_what_to_install_on_jetpack_6(jetson, capsys):
    jetson("6.2")
    out = run(capsys)[1]
    assert "L4T 36.4.3, JetPack 6.2, memory 8.00 GiB" in out
    assert "GPU at 306 MHz of at most unknown" in out
    assert "https://pypi.jetson-ai-lab.io/jp6/cu126" in out
    assert "constraints-jetson.txt 'laco-export[jetson]'" in out
    assert "power mode unknown" in out


def test_a_jetpack_that_is_too_old(jetson, capsys):
    jetson("5.x")
    assert "flash JetPack 6 or 7: JetPack 5.x is not supported" in run(capsys)[1]


def test_nothing_to_install_where_all_is_there(jetson, capsys):
    jetson("6.2", missing=())
    assert "pip install" not in run(capsys)[1]


def test_without_onnx_runtime_nothing_runs(capsys, monkeypatch):
    from laco_engines.providers import ProviderMissingError

    def missing():
        raise ProviderMissingError("ONNX Runtime is not installed")

    monkeypatch.setattr(doctor, "choose_provider", missing)
    monkeypatch.setattr(doctor, "library_version", lambda library: None)
    code, out = run(capsys)
    assert code == 1
    assert "pip install 'laco-export[cpu]'" in out
    assert out.rstrip().endswith("not ready")
