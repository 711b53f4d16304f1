"""How quantised Linear layers are written into a graph: one file a form, one line in :data:`~.forms.FORMS` a
target.

A form takes an FP32 graph (smoothed where that was chosen) and edits it in place. What is quantised, to which ranges
and in which number format comes from one calibration; only the form differs.

- :mod:`.placement`: what is quantised;
- :mod:`.forms`: what each form offers, and for which targets;
- :mod:`.tensorrt`: explicit Q/DQ pairs, as TensorRT reads them;
- :mod:`.cpu`: the integer kernels of ONNX Runtime's CPU provider;
- :mod:`.quantized_graphs`: the quantised graphs of a bundle, on disk;
- :mod:`.written_numbers`: what stands in them against what was chosen.
"""

from __future__ import annotations

from .forms import FORMS, QuantizedForm
from .placement import Placement

__all__ = ["FORMS", "Placement", "QuantizedForm"]
