"""As in tests/training: one thread."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "training"))

from one_thread import one_thread  # noqa: F401
