"""The TensorRT runtimes on stand-ins: names, order of calls, refusals. Nothing here runs TensorRT or CUDA."""

import gc
import sys

import numpy as np
import pytest

from laco_engines.devices.cuda import present_device
from laco_engines.runtimes import RuntimeMissingError, TensorRTRTXVision, TensorRTVision, open_runtime, tensorrt_engine
from laco_export.errors import BundleError, UsageError

LEVELS = ("tensorrt-10.3", "tensorrt-10.13", "tensorrt-10.16", "tensorrt-11.4")
RTX = "tensorrt-rtx-1.7"
HERE = "Stand-in sm_87, 8 multiprocessors, 8 GiB, Stand-in Developer Kit"


def pictures(count):
    return np.arange(count, dtype=np.float32)[:, None, None, None] * np.ones((count, 3, 56, 56), np.float32)


@pytest.mark.parametrize("level", LEVELS)
def test_pictures_of_any_number_come_back_in_order(stand_in_device, store_engines, bundle, level):
    trt, cuda, _ = stand_in_device(level)
    runtime = TensorRTVision(bundle, cache=store_engines("tensorrt", trt.__version__))
    assert runtime.name == f"TensorRT {trt.__version__} Stand-in"
    features = runtime.encode(pictures(5))  # 2 + 2 + 1
    assert features.shape == (5, 4, 48)
    assert features.dtype == np.float32
    assert features[:, 0, 0].tolist() == [0, 1, 2, 3, 4]
    assert cuda.calls.count("cudaGraphLaunch") == 3


def test_memory_is_allocated_once_and_a_run_is_one_launch(stand_in_device, store_engines, bundle):
    trt, cuda, _ = stand_in_device("tensorrt-10.3")
    runtime = TensorRTVision(bundle, cache=store_engines("tensorrt", trt.__version__))
    runtime.prepare(3)  # both sizes
    cuda.calls.clear()
    first = runtime.encode(pictures(2))
    as_returned = first.copy()
    runtime.encode(pictures(2) + 9)
    assert cuda.calls == ["cudaGraphLaunch", "cudaStreamSynchronize"] * 2
    assert np.array_equal(first, as_returned)  # the caller's own, not the pinned memory
    runtime.close()
    assert cuda.memory == {}


def test_sizes_without_an_engine_are_served_by_the_others(stand_in_device, store_engines, bundle):
    trt, _, _ = stand_in_device("tensorrt-10.3")
    runtime = TensorRTVision(bundle, cache=store_engines("tensorrt", trt.__version__, batches=(2,)))
    assert runtime.batch_sizes == [2]
    assert runtime.encode(pictures(3))[:, 0, 0].tolist() == [0, 1, 2]  # the second pair is padded


@pytest.mark.parametrize(
    ("stored", "says"),
    [
        ({"version": "10.2.0"}, "one is for tensorrt 10.2.0, here is 10.3.0"),
        (
            {"device": "Stand-in sm_87, 16 multiprocessors, 61 GiB, Stand-in Developer Kit"},
            f"one is for Stand-in sm_87, 16 multiprocessors, 61 GiB, Stand-in Developer Kit, here is {HERE}",
        ),
        (
            {"device": "Stand-in sm_87, 8 multiprocessors, 8 GiB, Other Developer Kit"},
            f"one is for Stand-in sm_87, 8 multiprocessors, 8 GiB, Other Developer Kit, here is {HERE}",
        ),
        ({"system": "L4T 36.4"}, "one is for L4T 36.4, here is L4T 36.4.3"),
        ({"system": ""}, "one is for an unknown JetPack, here is L4T 36.4.3"),
        ({"schema": 1}, "one is by an older version, which did not note its board and JetPack"),
        ({"library": "tensorrt_rtx", "capabilities": (86,)}, "one is for tensorrt_rtx"),
        ({"batches": ()}, "no engine was built of vision_b1.onnx"),
    ],
)
def test_an_engine_for_another_place_is_not_loaded(stand_in_device, store_engines, bundle, stored, says):
    trt, cuda, _ = stand_in_device("tensorrt-10.3")
    cache = store_engines(**{"library": "tensorrt", "version": trt.__version__, **stored})
    with pytest.raises(RuntimeMissingError) as caught:
        TensorRTVision(bundle, cache=cache)
    assert says in caught.value.failed
    assert "laco-engine build" in caught.value.todo
    assert "cudaMalloc" not in cuda.calls


def test_the_command_says_where_an_older_engine_differs_and_what_to_do(
    stand_in_device, store_engines, bundle, monkeypatch, capsys
):
    from laco_engines.cli import main

    trt, _, _ = stand_in_device("tensorrt-10.3")
    cache = store_engines("tensorrt", trt.__version__, device="Stand-in sm_87", schema=1)
    monkeypatch.setenv("LACO_ENGINE_CACHE", str(cache.folder))
    assert main(["diff", str(bundle.path), "--runtime", "tensorrt"]) == 1
    message = " ".join(capsys.readouterr().err.split())
    assert "did not note its board and JetPack" in message
    assert "laco-engine build" in message
    assert "Traceback" not in message


def test_an_engine_of_another_graph_is_not_loaded(stand_in_device, store_engines, bundle, tmp_path):
    import dataclasses

    from laco_export.bundle import Bundle

    trt, _, _ = stand_in_device("tensorrt-10.3")
    cache = store_engines("tensorrt", trt.__version__)
    files = {**bundle.manifest.files, "vision.data": {"sha256": "0" * 64, "bytes": 1}}
    other = Bundle(bundle.path, dataclasses.replace(bundle.manifest, files=files))
    with pytest.raises(RuntimeMissingError, match="no engine was built of"):
        TensorRTVision(other, cache=cache)


def test_a_damaged_engine_is_not_loaded(stand_in_device, store_engines, bundle):
    trt, _, _ = stand_in_device("tensorrt-10.3")
    cache = store_engines("tensorrt", trt.__version__)
    for path in cache.folder.rglob("*.engine"):
        path.write_bytes(b"X")
    with pytest.raises(RuntimeMissingError, match="SHA-256"):
        TensorRTVision(bundle, cache=cache)


def test_an_engine_that_tensorrt_does_not_load(stand_in_device, store_engines, bundle):
    trt, _, _ = stand_in_device("tensorrt-10.3")
    with pytest.raises(RuntimeMissingError, match="does not load the engine"):
        TensorRTVision(bundle, cache=store_engines("tensorrt", trt.__version__, content=b"broken"))


FAILURES = {
    "the first buffer": ("cudaMalloc", 0),
    "its pinned twin": ("cudaMallocHost", 0),
    "the second buffer": ("cudaMalloc", 1),
    "the captured graph": ("cudaGraphInstantiate", 0),
}


@pytest.mark.parametrize("failing", FAILURES.values(), ids=FAILURES)
def test_without_device_memory_the_next_runtime_runs_and_nothing_is_left_on_the_device(
    stand_in_device, store_engines, bundle, monkeypatch, failing
):
    trt, cuda, _ = stand_in_device("tensorrt-10.3")
    monkeypatch.setenv("LACO_ENGINE_CACHE", str(store_engines("tensorrt", trt.__version__).folder))
    cuda.failing = failing
    runtime = open_runtime(bundle)
    assert runtime.name.startswith("onnxruntime")
    reason = runtime.passed_over[0]
    assert reason.startswith("TensorRT does not start: a CUDA call failed: cudaErrorMemoryAllocation")
    assert "6,144 of 8,192 MiB of device memory are free" in reason
    assert (cuda.memory, cuda.streams) == ({}, 0)
    assert not [thing for thing in gc.get_objects() if type(thing) is trt.ICudaEngine]


def test_a_runtime_that_was_asked_for_fails_and_says_why(stand_in_device, store_engines, bundle, monkeypatch):
    trt, cuda, _ = stand_in_device("tensorrt-10.3")
    monkeypatch.setenv("LACO_ENGINE_CACHE", str(store_engines("tensorrt", trt.__version__).folder))
    cuda.failing = ("cudaMalloc", 1)
    with pytest.raises(RuntimeMissingError, match="does not start: a CUDA call failed: cudaErrorMemoryAllocation"):
        open_runtime(bundle, name="tensorrt")
    assert (cuda.memory, cuda.streams) == ({}, 0)


@pytest.mark.parametrize("what", ["context", "enqueue", "runtime"])
def test_what_tensorrt_does_not_do_is_a_reason_too(stand_in_device, store_engines, bundle, monkeypatch, what):
    trt, cuda, _ = stand_in_device("tensorrt-10.3")
    monkeypatch.setenv("LACO_ENGINE_CACHE", str(store_engines("tensorrt", trt.__version__).folder))
    if what == "context":  # what create_execution_context gives where the device's memory is too small
        monkeypatch.setattr(trt.ICudaEngine, "create_execution_context", lambda self: None)
    elif what == "enqueue":
        trt.RUN["enqueue"] = lambda plan, addresses, stream: False
    else:
        monkeypatch.setattr(trt.Runtime, "__init__", lambda self, logger: exec("raise TypeError('pybind11')"))
    runtime = open_runtime(bundle)
    assert runtime.name.startswith("onnxruntime")
    assert runtime.passed_over[0].startswith("TensorRT does not start: ")
    assert (cuda.memory, cuda.streams) == ({}, 0)


def test_a_later_batch_size_that_does_not_fit_leaves_the_first_in_use(stand_in_device, store_engines, bundle):
    trt, cuda, _ = stand_in_device("tensorrt-10.3")
    runtime = TensorRTVision(bundle, cache=store_engines("tensorrt", trt.__version__))
    held = len(cuda.memory)
    cuda.failing = ("cudaMalloc", 1)
    with pytest.raises(RuntimeMissingError, match="cudaErrorMemoryAllocation"):
        runtime.prepare(2)
    assert len(cuda.memory) == held
    assert runtime.encode(pictures(1))[:, 0, 0].tolist() == [0]


def test_an_engine_with_other_tensors(stand_in_device, store_engines, bundle):
    trt, _, _ = stand_in_device("tensorrt-10.3")
    tensors = trt.RUN["tensors"]
    trt.RUN["tensors"] = lambda plan: [(name, shape, "HALF", is_input) for name, shape, _, is_input in tensors(plan)]
    with pytest.raises(BundleError, match="does not have its tensors"):
        TensorRTVision(bundle, cache=store_engines("tensorrt", trt.__version__))


def test_another_shape_is_refused(stand_in_device, store_engines, bundle):
    trt, _, _ = stand_in_device("tensorrt-10.3")
    runtime = TensorRTVision(bundle, cache=store_engines("tensorrt", trt.__version__))
    with pytest.raises(UsageError, match="shape"):
        runtime.encode(np.zeros((1, 3, 56, 57), np.float32))


def test_rtx_keeps_the_kernels_that_it_compiled(stand_in_device, store_engines, bundle, tmp_path):
    log = tmp_path / "touched"
    trt, _, _ = stand_in_device(RTX, capability=86, log=log)
    cache = store_engines("tensorrt_rtx", trt.__version__, device="", capabilities=(86, 89))
    runtime = TensorRTRTXVision(bundle, cache=cache)
    assert runtime.encode(pictures(3))[:, 0, 0].tolist() == [0, 1, 2]
    assert log.read_text().count("IRuntimeCache.serialize") == 2
    assert len(list(cache.folder.rglob("*.sm86.runtime-cache"))) == 2
    log.write_text("")
    TensorRTRTXVision(bundle, cache=cache).prepare(3)
    assert log.read_text().count("IRuntimeCache.deserialize") == 2
    assert "IRuntimeCache.serialize" not in log.read_text()


def test_rtx_refuses_a_capability_that_it_was_not_built_for(stand_in_device, store_engines, bundle):
    trt, _, _ = stand_in_device(RTX, capability=90)
    cache = store_engines("tensorrt_rtx", trt.__version__, device="", capabilities=(86, 89))
    with pytest.raises(RuntimeMissingError, match="compute capability 86, 89, here is 90"):
        TensorRTRTXVision(bundle, cache=cache)


def test_without_a_device_the_real_bindings_say_so(load_stand_in, bundle, monkeypatch):
    from cuda.bindings import runtime as cuda

    if cuda.cudaGetDeviceCount()[1]:
        pytest.skip("needs a machine without a CUDA device")
    load_stand_in("tensorrt-10.3")
    with pytest.raises(RuntimeMissingError, match="TensorRT has no device: there is no CUDA device here"):
        TensorRTVision(bundle)


def test_without_a_device_the_library_is_not_imported(bundle, monkeypatch):
    """It takes 80 MiB, on a machine where the tower then runs elsewhere."""
    if present_device() is not None:
        pytest.skip("needs a machine without a CUDA device")
    pytest.importorskip("tensorrt_rtx", reason="needs tensorrt-rtx")
    monkeypatch.delitem(sys.modules, "tensorrt_rtx")
    monkeypatch.setattr(tensorrt_engine, "import_module", lambda name: pytest.fail(f"{name} is imported"))
    with pytest.raises(RuntimeMissingError, match="TensorRT-RTX has no device"):
        TensorRTRTXVision(bundle)


def test_the_cuda_stand_in_has_only_real_names():
    """Each name of the stand-in exists in NVIDIA's bindings, so code that runs on it asks for nothing else."""
    from cuda.bindings import runtime as cuda

    from ..stand_ins import StandInCuda

    for name in (name for name in vars(StandInCuda) if name.startswith("cuda")):
        real, member = getattr(cuda, name), getattr(StandInCuda, name)
        for inner in vars(member) if isinstance(member, type) else ():
            assert inner.startswith("__") or hasattr(real, inner)
