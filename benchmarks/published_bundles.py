"""Bundles of published vision towers alone, with random weights: for compilers and clocks, which do not mind them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from published_towers import ENCODERS, pixel_shape, published_tower

from laco_export.bundle import Bundle, Manifest, open_bundle, write_manifest
from laco_export.exporter import vision_graph
from laco_export.exporter.half_formats import HALF_FORMATS
from laco_export.exporter.precision import choose_fp32
from laco_export.exporter.ranges import measure_ranges
from laco_export.exporter.targets import TARGETS

TARGET = TARGETS["trt10.3"]


def published_bundles(
    encoder: str, depth: str, precisions: Sequence[str], folder: Path, batches: Sequence[int] = (1,)
) -> Iterator[tuple[str, Bundle]]:
    """``(precision, bundle)`` for each precision: the exporter's own trace, rewrites, islands and forms, once traced.

    Golden pictures and the proof are left out: there is nothing to prove about random weights. The next bundle is made
    when it is asked for, in ``folder/<precision>``.
    """
    tower = published_tower(encoder, depth)
    vision = tower.vision_model
    shape = pixel_shape(tower)
    traced = vision_graph.trace_and_rewrite(tower, shape, opset=TARGET.opsets[-1])
    facts = {
        "source": {"name": ENCODERS[encoder]},
        "encoder": {"num_blocks": vision.num_blocks},
        "compression": {"depth": depth, "block": vision.block},
    }
    del tower
    for precision in precisions:
        graph = traced
        if precision != "fp32":
            form = HALF_FORMATS[precision]
            picture = np.random.default_rng(0).standard_normal(shape, np.float32)
            kept_fp32 = choose_fp32(traced.graph, measure_ranges(traced.graph, [picture], form.torch), form)
            (graph,) = vision_graph.in_half([traced], kept_fp32, form)
        inside = folder / precision
        inside.mkdir(parents=True)
        formed = vision_graph.for_target(graph, TARGET, batches)
        record = vision_graph.write_vision(formed, inside, precision=precision, target=TARGET)
        (inside / vision_graph.marked(record.graphs[0].file)).unlink()
        manifest = Manifest("benchmark", {}, **facts, vision=record, preprocessing={}, golden="", accuracy={})
        write_manifest(inside, manifest)
        yield precision, open_bundle(inside)
