"""How quantised Linear layers are written into a graph: one file a form, one line in :data:`FORMS` a target.

A form takes an FP32 graph (smoothed where that was chosen) and edits it in place. What is quantised, to which ranges
and in which number format comes from one calibration; only the form differs.

- :mod:`.placement`: what is quantised, and what a form says of itself;
- :mod:`.tensorrt`: explicit Q/DQ pairs, as TensorRT reads them;
- :mod:`.cpu`: the integer kernels of ONNX Runtime's CPU provider;
- :mod:`.quantized_graphs`: the quantised graphs of a bundle, on disk;
- :mod:`.written_numbers`: what stands in them against what was chosen.
"""

from __future__ import annotations

from .cpu import INTEGER_KERNELS
from .placement import Placement, QuantizedForm
from .tensorrt import EXPLICIT_QDQ

FORMS: dict[str, QuantizedForm] = {"trt10.3": EXPLICIT_QDQ, "trt10.14": EXPLICIT_QDQ, "ort-cpu": INTEGER_KERNELS}
"""Target, a name of :data:`~laco_export.exporter.targets.TARGETS` → the form of its quantised graphs."""

__all__ = ["FORMS", "Placement", "QuantizedForm"]
