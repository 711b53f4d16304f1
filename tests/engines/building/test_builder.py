"""Keys, memory and the workspace of a build; what is built is in tests/engines/commands/test_build.py."""

import dataclasses

import pytest

from laco_export.bundle import open_bundle

pytestmark = pytest.mark.tensorrt


def test_another_version_is_a_miss(rtx, bundle_folder, engine_cache, monkeypatch):
    from laco_engines.building.build_device import resolve_device
    from laco_engines.building.builder import BuildOptions, engine_key

    bundle = open_bundle(bundle_folder)
    graph = bundle.manifest.vision.graphs[0]
    before = engine_key(bundle, graph, resolve_device("rtx"), BuildOptions())
    monkeypatch.setattr("laco_engines.building.build_device.library_version", lambda library: "9.9")
    after = engine_key(bundle, graph, resolve_device("rtx"), BuildOptions())
    assert before.version != after.version == "9.9"
    assert engine_cache.path_of(before) != engine_cache.path_of(after)


@pytest.mark.parametrize(
    "change",
    [
        {"board": "NVIDIA Jetson Orin NX Engineering Reference Developer Kit"},
        {"l4t": "36.5"},
        {"total_bytes": 16 << 30},
        {"multiprocessors": 16},
        {"name": "Thor"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_another_board_or_jetpack_is_a_miss_and_has_timings_of_its_own(bundle_folder, engine_cache, change):
    from laco_engines.building import builder
    from laco_engines.building.build_device import BuildDevice
    from laco_engines.devices.cuda import CudaDevice

    bundle, options = open_bundle(bundle_folder), builder.BuildOptions()
    graph = bundle.manifest.vision.graphs[0]
    here = CudaDevice("Orin", 87, 8 << 30, 6 << 30, True, "12.6", 8, "NVIDIA Jetson Orin Nano Developer Kit", "36.4.3")
    devices = [
        BuildDevice("tensorrt", "10.3.0", cuda, (), None)
        for cuda in (here, dataclasses.replace(here, **change), dataclasses.replace(here, free_bytes=5 << 30))
    ]
    engine, changed, same = (
        engine_cache.path_of(builder.engine_key(bundle, graph, device, options)) for device in devices
    )
    assert engine != changed
    assert engine == same  # what is free is not the device
    timings, changed, same = (builder._timing_cache(engine_cache, device) for device in devices)
    assert timings != changed
    assert timings == same
    assert timings.name.startswith(
        "Orin-sm-87-8-multiprocessors-8-GiB-NVIDIA-Jetson-Orin-Nano-Developer-Kit-L4T-36.4.3-tensorrt"
    )


def test_a_builder_on_a_discrete_gpu_needs_the_systems_memory_too(monkeypatch, one_graph):
    from laco_engines.building import builder
    from laco_engines.building.build_device import BuildDevice
    from laco_engines.building.builder import BuildOptions, EngineMemoryError, build_bundle
    from laco_engines.devices.cuda import CudaDevice

    monkeypatch.setattr(builder, "available_memory", lambda: 100 << 20)
    gpu = CudaDevice("NVIDIA H200", 90, 140 << 30, 139 << 30, False, "12.6")
    device = BuildDevice("tensorrt", "10.3.0", gpu, (), None)
    with pytest.raises(EngineMemoryError, match="would not fit into memory") as caught:
        build_bundle(open_bundle(one_graph), device, BuildOptions())
    assert "100 MiB free" in str(caught.value)


def test_the_workspace_is_capped_to_what_the_device_has_free(monkeypatch, one_graph):
    from laco_engines.building import builder
    from laco_engines.building.build_device import BuildDevice
    from laco_engines.building.builder import BuildOptions, EngineMemoryError
    from laco_engines.cost.estimate import estimate
    from laco_engines.cost.graph_cost import graph_cost
    from laco_engines.devices.cuda import CudaDevice

    bundle = open_bundle(one_graph)
    (graph,) = bundle.manifest.vision.graphs
    cost = graph_cost(bundle.file(graph.file))

    def workspace(free, asked=None):
        device = BuildDevice("tensorrt", "10.3.0", CudaDevice("Orin", 87, 8 << 30, free, True, "12.6"), (), None)
        expected = estimate(cost, workspace_bytes=asked, profile=None)
        return builder._workspace(graph, cost, expected, device, BuildOptions(workspace_bytes=asked))

    need = estimate(cost, workspace_bytes=None, profile=None).build_bytes
    assert workspace(2 << 30) < 2 << 30
    assert workspace(2 << 30) + need - cost.activation_bytes == 2 << 30
    assert workspace(2 << 30, 64 << 20) == 64 << 20
    assert workspace(need + (1 << 20), 512 << 20) < 512 << 20
    with pytest.raises(EngineMemoryError, match="would not fit into memory"):
        workspace(100 << 20)
