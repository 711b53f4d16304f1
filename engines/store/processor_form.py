"""The form of an eight-bit bundle that this processor's products are exact and fast in.

On x86 without VNNI the fast product of uint8 and int8 adds pairs in 16 bits and cuts off what does not fit
(:mod:`laco_export.onnx_session`). A bundle for a CPU carries a twin for such processors, whose weights have seven bits;
without one its own graphs run with exact products, which are slower than FP32 there.
"""

from __future__ import annotations

from dataclasses import replace

from laco_export import onnx_session
from laco_export.bundle import Bundle, graphs_from
from laco_export.manifest_schema import EIGHT_BIT_PRODUCTS, SEVEN_BIT_PRODUCTS


def form_for_processor(bundle: Bundle) -> tuple[Bundle, str | None]:
    """The bundle as if what runs here were its vision tower, and a sentence that says why where it is not the first
    choice."""
    vision = bundle.manifest.vision
    if vision.products != EIGHT_BIT_PRODUCTS or not onnx_session.products_saturate():
        return bundle, None
    lacks = "this processor's fast product of uint8 and int8 cuts off sums (x86 without VNNI)"
    if vision.twin is None:
        slower = "exact products run, which are slower; laco-calibrate --portable makes a graph for it"
        return bundle, f"{lacks}: {slower}"
    twin = replace(vision, graphs=graphs_from(vision.twin["graphs"]), products=vision.twin["products"], twin=None)
    other = replace(bundle, manifest=replace(bundle.manifest, vision=twin))
    return other, f"{lacks}: the bundle's twin with weights of seven bits runs"


def multiplies_exactly(bundle: Bundle) -> bool:
    """Whether the vision graphs' products are exact on every processor without ONNX Runtime's slower kernels: weights
    alone are quantised, or they have seven bits."""
    vision = bundle.manifest.vision
    return vision.precision in ("w8", "w4") or vision.products == SEVEN_BIT_PRODUCTS
