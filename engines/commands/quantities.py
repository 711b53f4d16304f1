"""Sizes, times and points as they are typed: argparse types."""

from __future__ import annotations

import argparse
import math
import re

_SIZES = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_MILLISECONDS = {"us": 1e-3, "ms": 1.0, "s": 1000.0, "min": 60000.0}


def size(text: str) -> int:
    """Bytes as ``512M``, ``2GiB`` or a plain number; units are powers of 1024."""
    _require_no_sign(text)
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?)(?:i?b)?", text.strip().lower())
    if match is None:
        raise argparse.ArgumentTypeError(f"'{text}' is not a size such as 512M or 2GiB")
    return int(float(match[1]) * _SIZES[match[2]])


def size_limit(text: str) -> int:
    """Bytes, with their unit and more than none: a limit in plain numbers is most likely one in another unit."""
    value = size(text)
    if not re.search(r"[a-z]", text.lower()):
        raise argparse.ArgumentTypeError(f"'{text}' has no unit: give it as 512M or 2.5G")
    if value < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is no memory at all")
    return value


def time_limit(text: str) -> float:
    """Milliseconds of ``150ms``, ``0.2s``, ``800us`` or ``2min``; more than none."""
    _require_no_sign(text)
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(us|ms|s|min)?", text.strip().lower())
    if match is None:
        raise argparse.ArgumentTypeError(f"'{text}' is not a time such as 150ms or 1.5s")
    if match[2] is None:
        raise argparse.ArgumentTypeError(f"'{text}' has no unit: give it as {match[1]}ms or {match[1]}s")
    value = float(match[1]) * _MILLISECONDS[match[2]]
    if value <= 0:
        raise argparse.ArgumentTypeError(f"'{text}' is no time at all")
    return value


def points_limit(text: str) -> float:
    """Points that may be lost: 0 or more, hundredths of whatever is counted."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 100:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of points from 0 to 100")
    return value


def _require_no_sign(text: str) -> None:
    if text.strip().startswith("-"):
        raise argparse.ArgumentTypeError(f"'{text}' is negative")
