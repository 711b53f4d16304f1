"""Nothing leaves the device: ONNX Runtime's telemetry is off before it is imported for the first time.

From 1.29 on ONNX Runtime reports to its maker under Linux too: its import leaves an id and a database in the user's
cache and a file in the temporary folder, and its sessions look up the host that takes the events. It reads
``ORT_DISABLE_TELEMETRY`` when it is imported, and child processes inherit the variable. :mod:`laco_export` turns it off
when it is imported, and the other packages import that first. Whoever has set the variable, to whatever, has decided.
"""

from __future__ import annotations

import os
import sys

VARIABLE = "ORT_DISABLE_TELEMETRY"


def turn_off_telemetry() -> None:
    """Set :data:`VARIABLE` unless the user has; where ONNX Runtime is imported already, it sends no further events."""
    if VARIABLE in os.environ:
        return
    os.environ[VARIABLE] = "1"
    if (onnxruntime := sys.modules.get("onnxruntime")) is not None:
        onnxruntime.disable_telemetry_events()
