"""What calibration refuses."""

from __future__ import annotations

from laco_export.errors import LacoError


class CalibrationError(LacoError):
    """Calibration cannot be done with what was given."""


class NotWorthItError(LacoError):
    """No INT8 graph is both faster and accurate enough: there is none to hand out."""
