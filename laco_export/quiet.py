"""Keep other libraries' log lines and warnings away from the user while they work for us.

Optimum, transformers and torch's exporter log and warn about their own insides. What a LaCo command has to say it says
itself, so their lines up to WARNING are held back for the duration of a block; their errors still show.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager


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
