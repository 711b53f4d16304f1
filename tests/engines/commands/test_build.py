"""``laco-engine build`` with the real TensorRT-RTX compiler, which needs no GPU; nothing is run."""

import json
import shutil

import pytest

from laco_engines.cli import main
from laco_engines.commands.quantities import size
from laco_engines.store.engine_cache import EngineCache
from laco_export.bundle import open_bundle, read_manifest, write_manifest

pytestmark = pytest.mark.tensorrt


def build(capfd, *arguments):
    code = main(["build", *map(str, arguments)])
    captured = capfd.readouterr()
    assert "Traceback" not in captured.err
    return code, captured.out, captured.err


def statuses(out):
    return [engine["status"] for engine in json.loads(out)["engines"]]


def test_a_second_build_is_a_hit_and_any_change_a_miss(rtx, one_graph, engine_cache, capfd):
    def build_rtx(*options, bundle=one_graph, capability="86"):
        arguments = ("--device", "rtx", "--compute-capability", capability, "--json")
        code, out, err = build(capfd, bundle, *arguments, *options)
        assert code == 0, err
        return statuses(out)

    assert build_rtx() == ["built"]
    assert build_rtx() == ["cached"]
    assert build_rtx("--level", "2") == ["built"]
    assert build_rtx("--workspace", "256M") == ["built"]
    assert build_rtx(capability="89") == ["built"]
    assert build_rtx() == ["cached"]
    # Other weights under the same graph are another graph.
    weights = bytearray((one_graph / "vision.data").read_bytes())
    weights[0] ^= 1
    (one_graph / "vision.data").write_bytes(weights)
    write_manifest(one_graph, read_manifest(one_graph))
    assert build_rtx() == ["built"]


def test_turing_is_left_out_where_a_graph_is_not_half(rtx, one_graph, engine_cache, capfd):
    """The fixture is FP32, which TensorRT-RTX does not compile for Turing; named, it is asked for and refused."""
    code, out, _ = build(capfd, one_graph, "--device", "rtx")
    assert code == 0
    assert out.count("for compute capability 8.0, 8.6, 8.9, 12.0, 12.1") == 1
    assert out.count("not for compute capability 7.5: TensorRT-RTX compiles no FP32 product for it") == 1
    assert "laco-export --fp16" in out
    code, out, _ = build(capfd, one_graph, "--device", "rtx", "--json")  # from the cache it is said too
    assert json.loads(out)["engines"][0]["left_out"] == [75]
    code, _, err = build(capfd, one_graph, "--device", "rtx", "--compute-capability", "75")
    assert code == 1
    assert "Turing" in err


def test_a_damaged_engine_is_built_again(rtx, bundle_folder, engine_cache, capfd):
    build(capfd, bundle_folder, "--device", "rtx", "--compute-capability", "86")
    engine = sorted(engine_cache.folder.rglob("*.engine"))[0]
    whole = engine.read_bytes()
    engine.write_bytes(whole[:100] + b"X" + whole[101:])
    code, out, _ = build(capfd, bundle_folder, "--device", "rtx", "--compute-capability", "86")
    assert code == 0
    assert "built again (its SHA-256 is not the stored one)" in out
    assert engine.stat().st_size == len(whole)
    engine.write_bytes(whole[:100])
    assert "its size is not" in build(capfd, bundle_folder, "--device", "rtx", "--compute-capability", "86")[1]
    engine.with_suffix(".json").write_text("{")  # half a sidecar: there is no engine
    out = build(capfd, bundle_folder, "--device", "rtx", "--compute-capability", "86", "--json")[1]
    assert sorted(statuses(out)) == ["built", "cached"]


def test_a_full_disk_is_told_before_anything_is_built(rtx, one_graph, engine_cache, monkeypatch, capfd):
    from types import SimpleNamespace

    from laco_export import disk_space

    monkeypatch.setattr(disk_space.shutil, "disk_usage", lambda folder: SimpleNamespace(free=1000))
    code, _, err = build(capfd, one_graph, "--device", "rtx", "--compute-capability", "86")
    assert code == 1
    assert "cannot hold the engine" in err
    assert "LACO_ENGINE_CACHE" in err


def test_a_cache_that_is_no_folder_is_told_with_what_to_set(rtx, one_graph, tmp_path, monkeypatch, capfd):
    for place in (tmp_path / "file", tmp_path / "file" / "below"):
        (tmp_path / "file").write_text("not a folder")
        monkeypatch.setenv("LACO_ENGINE_CACHE", str(place))
        code, _, err = build(capfd, one_graph, "--device", "rtx", "--compute-capability", "86")
        assert code == 1
        assert "the engine cache cannot be written" in err
        assert "LACO_ENGINE_CACHE" in err
        assert (tmp_path / "file").read_text() == "not a folder"


def test_the_sidecar_says_for_what_it_was_built(rtx, bundle_folder, engine_cache, capfd):
    import tensorrt_rtx

    code, out, _ = build(capfd, bundle_folder, "--device", "rtx", "--compute-capability", "89", "86", "--level", "1")
    assert code == 0
    assert "compute capability 8.6, 8.9" in out
    bundle = open_bundle(bundle_folder)
    for graph in bundle.manifest.vision.graphs:
        (stored,) = EngineCache().engines_of(bundle.graph_sha256(graph))
        assert stored.damage() is None
        assert stored.key.compute_capabilities == (86, 89)
        assert stored.key.version == tensorrt_rtx.__version__
        assert stored.key.options == {"workspace": None, "level": 1}
        assert stored.sidecar["tensors"]["input"]["shape"][0] == stored.sidecar["batch"] == graph.batch
        assert stored.sidecar["seconds"] > 0
        assert stored.path.read_bytes()[:4] == b"vtrt"  # TensorRT-RTX's own mark


def test_the_bundle_stays_as_it_was(rtx, one_graph, engine_cache, capfd):
    before = sorted(path.name for path in one_graph.rglob("*"))
    build(capfd, one_graph, "--device", "rtx", "--compute-capability", "120")
    assert sorted(path.name for path in one_graph.rglob("*")) == before
    open_bundle(one_graph)


def test_messages_are_condensed_unless_verbose(rtx, one_graph, engine_cache, capfd):
    arguments = (one_graph, "--device", "rtx", "--compute-capability", "80")
    _, out, err = build(capfd, *arguments)
    assert len(out.splitlines()) == 4  # the library, two lines for the graph, the comparison that could not run
    assert "[V]" not in out + err
    assert "runs on such a device only" in out
    _, _, err = build(capfd, *arguments, "--level", "0", "--verbose")
    assert err.count("[V]") > 10
    assert "Engine generation completed" in err


def test_a_graph_that_tensorrt_refuses_leaves_no_engine(rtx, bundle_folder, engine_cache, capfd, tmp_path):
    import onnx

    other = tmp_path / "other"
    shutil.copytree(bundle_folder, other)
    model = onnx.load(other / "vision_b2.onnx", load_external_data=False)
    next(node for node in model.graph.node if node.op_type == "Add").op_type = "NoSuchOperator"
    onnx.save(model, other / "vision_b2.onnx")
    write_manifest(other, read_manifest(other))
    code, _, err = build(capfd, other, "--device", "rtx", "--compute-capability", "86")
    assert code == 1
    assert "tensorrt_rtx does not build the graph" in err
    assert "NoSuchOperator" in err
    assert len(list(engine_cache.folder.rglob("*.engine"))) == 1  # of batch 1, which came before
    assert not list(engine_cache.folder.rglob("*partial*"))


@pytest.mark.parametrize("device", ["orin-nano", "agx-orin", "thor", "h200"])
def test_an_absent_device_is_estimated_and_refused(bundle_folder, engine_cache, capfd, device):
    code, out, err = build(capfd, bundle_folder, "--device", device)
    assert code == 1
    assert "nothing was built" in err
    assert "laco-engine build" in err
    for word in ("engine", "running", "building", "fits", "building takes at least a second", "at most 60 minutes"):
        assert word in out
    assert out.count("a run takes at least") == 2
    code, out, _ = build(capfd, bundle_folder, "--device", device, "--json")
    document = json.loads(out)
    assert (code, document["built"], document["device"]) == (1, False, device)
    smaller, larger = (engine["estimate"] for engine in document["engines"])  # batch 1 and 2
    assert larger["build_bytes"] > smaller["build_bytes"] > smaller["engine_bytes"] > 0
    assert larger["encode_floor_ms"] > smaller["encode_floor_ms"] > 0
    assert smaller["build_seconds_at_most"] > smaller["build_seconds"] > 0
    assert not engine_cache.folder.exists()


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--device", "tpu"], 2, "orin-nano"),
        (["--device", "rtx", "--compute-capability", "87"], 2, "75, 80, 86, 89, 120, 121"),
        (["--compute-capability", "86"], 2, "--device rtx"),
        (["--device", "rtx", "--level", "6"], 2, "0 to 5"),
        (["--device", "rtx", "--workspace", "10"], 2, "1 MiB"),
    ],
)
def test_wrong_options_are_told(bundle_folder, capfd, arguments, code, says):
    exit_code, _, err = build(capfd, bundle_folder, *arguments)
    assert exit_code == code
    assert says in err


@pytest.mark.parametrize(
    ("old", "new"),
    [(["--target", "rtx"], "--device rtx"), (["--target=thor"], "--device thor"), (["--target"], "--device NAME")],
)
def test_the_old_spelling_names_the_new_one(bundle_folder, capfd, old, new):
    with pytest.raises(SystemExit) as stopped:
        build(capfd, bundle_folder, *old)
    assert stopped.value.code == 2
    assert f"--target is now --device: give {new}" in capfd.readouterr().err


def test_without_a_device_the_message_offers_what_there_is(bundle_folder, capfd, monkeypatch):
    from laco_engines.building import build_device
    from laco_engines.devices.cuda import DeviceMissingError

    def missing():
        raise DeviceMissingError("there is no CUDA device here: no NVIDIA driver is loaded")

    monkeypatch.setattr(build_device, "find_device", missing)
    code, _, err = build(capfd, bundle_folder)
    assert code == 1
    assert "no NVIDIA driver is loaded" in err
    assert "--device rtx" in err


@pytest.mark.parametrize(
    ("text", "count"), [("1024", 1024), ("512M", 512 << 20), ("2GiB", 2 << 30), ("1.5g", 3 << 29), ("64 KB", 64 << 10)]
)
def test_sizes(text, count):
    assert size(text) == count


def test_a_build_that_would_not_fit_is_refused_before_it_starts(rtx, one_graph, engine_cache, capfd, monkeypatch):
    from laco_engines.building import builder

    monkeypatch.setattr(builder, "available_memory", lambda: 100 << 20)
    monkeypatch.setattr(builder, "build_engine", None)
    code, _, err = build(capfd, one_graph, "--device", "rtx")
    assert code == 1
    assert "would not fit into memory" in err
    assert "100 MiB free" in err
    assert not list(engine_cache.folder.rglob("*.engine"))
