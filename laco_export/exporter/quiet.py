"""The graph tools' chatter kept from the user's screen, beside what :mod:`laco_export.quiet` holds back.

GraphSurgeon and Polygraphy have loggers of their own, and torch's exporter prints. Progress goes to stderr and is
untouched.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from ..quiet import quiet_libraries


@contextmanager
def quiet() -> Iterator[None]:
    """Hold back warnings, log records up to WARNING, and prints to stdout while the block runs."""
    from onnx_graphsurgeon.logger import G_LOGGER as surgeon
    from polygraphy.logger import G_LOGGER as polygraphy

    # CRITICAL of both is an exception, not a message, so nothing is lost: their ERROR lines repeat our own report.
    before = surgeon.severity, polygraphy.module_severity
    surgeon.severity, polygraphy.module_severity = surgeon.CRITICAL, polygraphy.CRITICAL
    try:
        with quiet_libraries(), redirect_stdout(io.StringIO()):
            yield
    finally:
        surgeon.severity, polygraphy.module_severity = before
