"""A tiny graph of every encoder, compressor and precision through TensorRT-RTX's real compiler (no GPU needed)."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from laco_export.bundle import Bundle, Manifest, read_manifest, write_manifest
from laco_export.models.compressors import COMPRESSORS
from laco_export.models.encoders import ENCODERS
from laco_export.preprocessing import ImagePreprocessing

pytestmark = pytest.mark.tensorrt
PRECISIONS = ("fp32", "fp16", "bf16")
KINDS = {
    "aimv2_vision_model": "aimv2",
    "siglip_vision_model": "siglip",
    "internvl_vision": "internvit",
    "clip_vision_model": "clip",
}
"""transformers' model type -> the tiny encoder of that kind."""
SHAPE = (1, 3, 56, 56)


def test_the_tables_have_no_others():
    from laco_export.exporter.targets import TARGETS

    assert set(ENCODERS) == set(KINDS)
    assert set(TARGETS["trt10.3"].precisions) == set(PRECISIONS)


def manifest_of(vision, folder) -> Manifest:
    """Of a bundle that is built and never asked: what is not the graph's is as small as a manifest may say it."""
    (folder / "golden.npz").write_bytes(b"never read")
    pixels = ImagePreprocessing(*SHAPE[2:], "squash", (0.5,) * 3, (0.5,) * 3)
    return Manifest(
        tool_version="test",
        libraries={},
        source={"name": "tiny", "sha256": "0" * 64},
        encoder={"model_type": "tiny", "hidden_size": 32, "num_blocks": 2},
        compression={
            "method": None,
            "depth": None,
            "block": None,
            "ratio": 1,
            "tokens_before": 16,
            "tokens_after": vision.token_grid[0] * vision.token_grid[1],
        },
        vision=vision,
        preprocessing=pixels.to_dict(),
        golden="golden.npz",
        accuracy={"tensors": [{"name": "image_features", "cosine": 1.0, "norm_ratio": 1.0, "max_abs": 0.0}]},
    )


@pytest.mark.parametrize("compressor", COMPRESSORS)
@pytest.mark.parametrize("encoder", KINDS.values())
def test_it_builds(rtx, make_tiny_model, tmp_path, engine_cache, encoder, compressor):
    """One trace, three precisions, three engines."""
    from laco_engines.building.build_device import resolve_device
    from laco_engines.building.builder import BuildOptions, build_bundle
    from laco_export.exporter import vision_graph
    from laco_export.exporter.half_formats import HALF_FORMATS
    from laco_export.exporter.precision import choose_fp32
    from laco_export.exporter.ranges import measure_ranges
    from laco_export.exporter.targets import TARGETS
    from laco_export.exporter.tower import VisionTower

    target = TARGETS["trt10.3"]
    model = make_tiny_model(encoder, method=compressor)
    tower = VisionTower(model).eval()
    traced = [vision_graph.trace_and_rewrite(tower, SHAPE, opset=target.opsets[-1])]
    picture = np.random.default_rng(0).standard_normal(SHAPE).astype(np.float32)
    bundles = []
    for precision in PRECISIONS:
        folder = tmp_path / precision
        folder.mkdir()
        graphs = traced
        if precision != "fp32":
            form = HALF_FORMATS[precision]
            kept_fp32 = choose_fp32(traced[0].graph, measure_ranges(traced[0].graph, [picture], form.torch), form)
            graphs = vision_graph.in_half(traced, kept_fp32, form)
        formed = vision_graph.for_target(graphs[0], target, [1])
        vision = vision_graph.write_vision(formed, folder, precision=precision, target=target)
        vision = replace(vision, token_grid=model.token_grid)
        write_manifest(folder, manifest_of(vision, folder))
        bundles.append(Bundle(folder, read_manifest(folder)))
    rtx_devices = resolve_device("rtx", (86,))
    with ThreadPoolExecutor(2) as pool:  # each build is a process of its own
        results = list(pool.map(lambda bundle: build_bundle(bundle, rtx_devices, BuildOptions()), bundles))
    for (result,) in results:
        assert result.status == "built"
        assert result.built.plan_bytes > 10_000
