"""Packages that transformers imports because they are there, and that no command of ours needs.

scikit-learn (with pandas and PyArrow) serves speculative decoding's thresholds, SciPy the losses of object detection:
a fifth of what an export's imports take where they are installed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

UNNEEDED = ("sklearn", "scipy")


@contextmanager
def without_unneeded_packages() -> Iterator[None]:
    """Inside the block :data:`UNNEEDED` are as if not installed, unless they were imported before.

    For commands: what is first imported inside keeps taking them as missing, in the whole process.
    """
    hidden = [name for name in UNNEEDED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))
    try:
        yield
    finally:
        for name in hidden:
            if sys.modules.get(name, name) is None:
                del sys.modules[name]
