"""Memory that one step of an export took and the next does not need, back to the system.

Graphs and Polygraphy's results refer to themselves in circles, which only Python's collector sees; and glibc keeps what
was freed between pieces that are still in use, gigabytes after a proof, unless it is told to look.
"""

from __future__ import annotations

import ctypes
import gc


def give_back_memory() -> None:
    """Collect what nothing refers to, and return free pages of the heap; the latter where the C library can (glibc)."""
    gc.collect()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)
