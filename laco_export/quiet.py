"""Keep other libraries' log lines, warnings and prints away from the user while they work for us.

Optimum, transformers and torch's exporter log and warn about their own insides; GraphSurgeon and Polygraphy have
loggers of their own, and torch's exporter prints. What a LaCo command has to say it says itself, so their lines up to
WARNING are held back for the duration of a block; their errors still show. Progress goes to stderr and is untouched.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Silence :mod:`warnings` and all log records up to WARNING inside the block; everything is restored after it."""
    before = logging.root.manager.disable
    logging.disable(max(before, logging.WARNING))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def quiet() -> Iterator[None]:
    """:func:`quiet_libraries`, and the graph tools' own loggers and prints to stdout too.

    Imports GraphSurgeon and Polygraphy: for code that works with them.
    """
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
