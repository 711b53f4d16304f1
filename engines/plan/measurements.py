"""What was measured on this machine, kept for the next time.

::

    $LACO_ENGINE_CACHE, or $XDG_CACHE_HOME/laco-export/engines, or ~/.cache/laco-export/engines
        measurements/<key>.json      what was measured, of what, and when

``<key>`` is a digest of everything that changes the figure: graph and weights, language model, machine and power mode,
libraries, engines, threads, batch, prompt. A change of any is another key. What cannot be read is measured again, and
so is what another user or everybody could have written.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path

from laco_export import __version__
from laco_export.atomic import write_json
from laco_export.machine import library_versions

from ..devices.state import machine_state
from ..store.engine_cache import EngineCache, cache_folder, stranger_who_writes

_SCHEMA = 1
_LIBRARIES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-openvino", "optimum-onnx", "tensorrt", "tensorrt-rtx")


@dataclass(frozen=True)
class MeasuredThing:
    """What a figure is of.

    Attributes:
        kind: ``encode``, ``text`` or ``memory``.
        sha256: of the graph, the language model, or both.
        runtime, text_runtime: as asked for; None is the best that is here.
        settings: threads, batch, tokens: whatever else changes the figure.
        engines: digests of the graph's TensorRT engines that are on this machine, one of which may be what runs.
        machine: see :func:`machine_identity`.
        libraries: installed versions of what computes.
    """

    kind: str
    sha256: str
    runtime: str | None
    text_runtime: str | None
    settings: dict[str, int]
    engines: tuple[str, ...] = ()
    machine: dict = field(default_factory=lambda: machine_identity())
    libraries: dict = field(default_factory=lambda: {**library_versions(_LIBRARIES), "laco-export": __version__})

    @property
    def digest(self) -> str:
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


def machine_identity() -> dict:
    """What of this machine decides how fast it is, and stays so: processor, GPU, board and power mode; no clock."""
    state = machine_state()
    board = state.board or {}
    return {"cpu": state.cpu, "gpu": state.gpu} | {name: board.get(name) for name in ("model", "l4t", "power_mode")}


def engine_digests(graph_sha256: str) -> tuple[str, ...]:
    """The keys of the engines of a graph that are stored here."""
    return tuple(sorted(stored.key.digest for stored in EngineCache().engines_of(graph_sha256)))


class MeasurementCache:
    """Figures on disk.

    Args:
        folder: default: beside the engines.
        fresh: read nothing; what is measured is kept all the same.
    """

    def __init__(self, folder: Path | None = None, *, fresh: bool = False):
        self.folder = (folder or cache_folder() / "measurements").absolute()
        self._fresh = fresh

    def read(self, thing: MeasuredThing) -> dict[str, float] | None:
        """The figures of a thing by name, or None."""
        path = self._path(thing)
        if self._fresh or not path.is_file() or any(map(stranger_who_writes, (path, path.parent))):
            return None
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            figures = document["figures"]
            sound = document["schema_version"] == _SCHEMA and document["of"] == json.loads(json.dumps(asdict(thing)))
            return figures if sound and all(_is_positive(value) for value in figures.values()) else None
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    def write(self, thing: MeasuredThing, figures: dict[str, float]) -> None:
        """Keep figures; a cache that cannot be written costs the next run its time and nothing else."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        document = {"schema_version": _SCHEMA, "of": asdict(thing), "measured_at": now, "figures": figures}
        with contextlib.suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            write_json(self._path(thing), document)

    def _path(self, thing: MeasuredThing) -> Path:
        return self.folder / f"{thing.digest}.json"


def _is_positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0
