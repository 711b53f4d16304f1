"""``laco-engine bench`` on tiny bundles; only ONNX Runtime's CPU provider is here."""

import json

import pytest
from PIL import Image

from laco_engines.bench import measure
from laco_engines.cli import main
from laco_engines.devices.host_peaks import HostPeaks
from laco_export.bundle import read_manifest

QUICK = ("--repeats", "3", "--warmup", "1", "--threads", "1")


@pytest.fixture(autouse=True)
def peaks(monkeypatch):
    """The machine's peaks take two seconds to measure; test_host_peaks.py measures them."""
    monkeypatch.setattr(measure, "measure_peaks", lambda threads: HostPeaks(1e12, 1e9, threads, 2e12))


def bench(capsys, *arguments):
    code = main(["bench", *map(str, arguments)])
    captured = capsys.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


def at_the_end(folder):
    """The compression of the bundle in ``folder``, after its last block."""
    return {**read_manifest(folder).compression, "depth": "1", "block": 4}


def test_several_bundles_in_one_run(bundle_folder, rewritten, capsys, tmp_path):
    other = rewritten(compression=at_the_end(bundle_folder))
    picture = tmp_path / "depth.png"
    code, out, err = bench(
        capsys, bundle_folder, other, "--batch", 1, 3, "--no-llm", "--json", "--plot", picture, *QUICK
    )
    assert code == 0, err
    document = json.loads(out)
    encode = document["encode"]
    assert [(record["bundle"], record["batch"], record["runs"], record["padded"]) for record in encode] == [
        ("bundle", 1, [1], 0),
        ("bundle", 3, [2, 1], 0),
        ("rewritten", 1, [1], 0),
        ("rewritten", 3, [2, 1], 0),
    ]
    for record in encode:
        assert record["p95_ms"] >= record["p50_ms"] > 0
        assert record["images_per_s"] == pytest.approx(1000 * record["batch"] / record["p50_ms"])
        assert record["kept"] + record["rejected"] >= 3
        assert record["times_floor"] == pytest.approx(record["p50_ms"] / record["floor_ms"])
        assert record["bound"] == "bandwidth-bound"  # by the made-up peaks: 1000 operations a byte
    assert encode[1]["floor_ms"] > encode[0]["floor_ms"]
    assert [encode[0]["depth"], encode[2]["depth"]] == [0.5, 1.0]
    for name in ("bundle", "rewritten"):
        assert document["memory"][name]["peak_resident_bytes"] > 30 << 20
        assert document["memory"][name]["device_bytes"] is None
        assert any("TensorRT" in reason for reason in document["passed_over"][name])
    assert document["options"]["warmup"] == 1
    assert "onnxruntime" in document["libraries"]
    assert document["machine"]["cpu"]
    assert document["decode"] == []
    with Image.open(picture) as image:
        assert image.size == (960, 560)


def test_the_language_model_is_measured_too(bundle_folder, capsys):
    code, out, err = bench(capsys, bundle_folder, "--batch", 1, "--new-tokens", 4, "--no-memory", "--json", *QUICK)
    assert code == 0, err
    (decode,) = json.loads(out)["decode"]
    assert decode["first_token_ms"] >= decode["encode_ms"] + decode["prefill_ms"] - 1e-6
    assert decode["first_token_p95_ms"] >= decode["first_token_ms"]
    assert decode["decode_tokens_per_s"] > 0
    assert decode["prompt_tokens"] > 4
    assert decode["kept"] + decode["rejected"] >= 3


def test_what_was_passed_over_for_all_is_said_once(bundle_folder, rewritten, capsys):
    other = rewritten(compression=at_the_end(bundle_folder))
    code, out, _ = bench(capsys, bundle_folder, other, "--batch", 1, "--no-llm", "--no-memory", *QUICK)
    assert code == 0
    assert out.count("passed over: TensorRT is not installed") == 1
    assert "bundle: passed over" not in out


def test_what_was_passed_over_for_some_names_them():
    from laco_engines.commands.bench import _passed_over

    reasons = {"a": ["TensorRT: no engine was built"], "b": ["TensorRT: no engine was built", "x"], "c": []}
    assert _passed_over(reasons) == ["a, b: passed over: TensorRT: no engine was built", "b: passed over: x"]


def test_the_table_says_what_was_measured_and_how(bundle_folder, capsys):
    code, out, _ = bench(capsys, bundle_folder, "--batch", 1, "--no-llm", "--no-memory", *QUICK)
    assert code == 0
    for word in ("p50 ms", "p95 ms", "images/s", "floor ms", "bandwidth-bound", "rejected", "1 warm-up runs",
                 "3 samples of each", "1 threads", "onnxruntime", "passed over: TensorRT", "or INA238"):  # fmt: skip
        assert word in out, word
    assert "…" not in out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--batch", "0"], "at least 1"),
        (["--warmup", "-1"], "--warmup must be at least 0"),
        (["--runtime", "tpu"], "onnxruntime"),
        (["--plot", "no/such/folder/depth.png"], "does not exist"),
        (["--plot", "depth.jpg"], "ends in .png"),
        (["--plot", "depth"], "ends in .png"),
    ],
)
def test_wrong_options_are_told(bundle_folder, capsys, arguments, says):
    try:
        code, _, err = bench(capsys, bundle_folder, *arguments)
    except SystemExit as stopped:  # argparse's own
        code, err = stopped.code, capsys.readouterr().err
    assert code == 2
    assert says in err


def test_a_runtime_that_is_missing_is_told(bundle_folder, capsys):
    code, _, err = bench(capsys, bundle_folder, "--runtime", "tensorrt")
    assert code == 1
    assert "TensorRT is not installed" in err or "TensorRT has no device" in err
