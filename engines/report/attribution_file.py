"""``--attribution FILE``: what ``laco-engine diff --attribute --json`` found, for the page to draw."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from laco_export.bundle import Bundle
from laco_export.errors import UsageError

_MADE_BY = "what laco-engine diff BUNDLE --attribute --reference BUNDLE --json prints"
_LARGEST = 64 << 20  # bytes


@dataclass(frozen=True)
class StoredAttribution:
    """What the drift of one bundle came from.

    Attributes:
        rows: ``{"part", "points", "feature_error", "is_total"}`` each, the whole last.
        of: which bundle beside which, for people.
        bundle_sha256: of the bundle's manifest.
    """

    rows: list[dict]
    of: str
    bundle_sha256: str

    def require_one_of(self, bundles: Sequence[Bundle]) -> None:
        """Refuse where it is of none of verified bundles.

        Raises:
            UsageError: none has the manifest that it was made of.
        """
        hashes = {str(bundle.path): bundle.manifest_entry["sha256"] for bundle in bundles}
        if self.bundle_sha256 not in hashes.values():
            raise UsageError(
                f"--attribution is of none of the report's bundles: it is of {self.of}",
                given=f"a manifest with SHA-256 {self.bundle_sha256}",
                allowed="; ".join(f"{path}: {sha256}" for path, sha256 in hashes.items()),
                todo="run laco-engine diff --attribute on one of them as it is now",
            )


def read_attribution(path: Path) -> StoredAttribution:
    """Read the file.

    Raises:
        UsageError: it is missing, or holds something else.
    """
    if not path.is_file():
        raise UsageError(f"--attribution '{path}' is not a file", allowed=_MADE_BY)
    if path.stat().st_size > _LARGEST:
        raise _wrong(path, f"{path.stat().st_size:,} bytes")
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        rows = [_row(row) for row in document["attribution"]]
        of = f"{document['bundle']} at depth {document['depth']}, beside {document['reference']}"
        sha256 = document["bundle_sha256"]
    except (ValueError, TypeError, KeyError) as error:
        raise _wrong(path, f"{type(error).__name__}: {error}") from None
    if not rows or not rows[-1]["is_total"] or not isinstance(sha256, str):
        raise _wrong(path, "no parts with their whole")
    return StoredAttribution(rows, of, sha256)


def _row(row: dict) -> dict:
    error = row["feature_error"]
    numbers = {"points": float(row["points"]), "feature_error": None if error is None else float(error)}
    if not all(math.isfinite(number) for number in numbers.values() if number is not None):
        raise ValueError(f"a number of '{row['part']}' is not finite")
    return {"part": str(row["part"]), **numbers, "is_total": bool(row.get("is_total", False))}


def _wrong(path: Path, holds: str) -> UsageError:
    return UsageError(f"--attribution '{path}' cannot be read", given=holds, allowed=_MADE_BY)
