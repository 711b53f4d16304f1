"""Engines on disk: found by what they were built from and for, never by a file name.

::

    $LACO_ENGINE_CACHE, or $XDG_CACHE_HOME/laco-export/engines, or ~/.cache/laco-export/engines
        <graph>/<key>.engine      the engine
        <graph>/<key>.engine.sm<N>.runtime-cache    the kernels that TensorRT-RTX compiled of it on such a device
        <graph>/<key>.json        for what it was built: written last, so an engine without it does not exist

``<key>`` is a digest of the graph with its external weights, the library and its version, the device with its board and
JetPack, and the options: a change of any is another key. Engines live outside the bundle because a bundle is verified
file by file and travels between devices, and an engine belongs to one device.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path

from laco_export.atomic import write_json
from laco_export.verified_files import sha256_of

SIDECAR_SCHEMA = 2
"""1 did not say which board and which system an engine was built on; such an engine is found, and never runs."""

_KERNELS_SUFFIX = ".runtime-cache"


@dataclass(frozen=True)
class EngineKey:
    """What an engine is built from and for.

    Attributes:
        graph_sha256: :meth:`~laco_export.bundle.Bundle.graph_sha256`.
        library, version: ``tensorrt`` or ``tensorrt_rtx``, and which.
        device: :attr:`~laco_engines.devices.cuda.CudaDevice.identity`; empty for an engine built with no device.
        compute_capabilities: that TensorRT-RTX was told to build for.
        options: what changes the result: ``{"workspace": bytes or None, "level": 0-5 or None}``, as asked for.
        system: :attr:`~laco_engines.devices.cuda.CudaDevice.system`: the JetPack under it, since a driver's update can
            change what a kernel gives; empty elsewhere.
    """

    graph_sha256: str
    library: str
    version: str
    device: str
    compute_capabilities: tuple[int, ...]
    options: dict
    system: str = ""

    @property
    def digest(self) -> str:
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class StoredEngine:
    """An engine in the cache: its file and its sidecar."""

    path: Path
    sidecar: dict

    @property
    def key(self) -> EngineKey:
        fields = self.sidecar["key"]
        return EngineKey(**{**fields, "compute_capabilities": tuple(fields["compute_capabilities"])})

    @property
    def outdated(self) -> bool:
        """It was built before its sidecar would say for which board and system."""
        return self.sidecar["schema_version"] < SIDECAR_SCHEMA

    def kernels(self, capability: int) -> Path:
        """Where TensorRT-RTX's kernels for a device of this compute capability are kept."""
        return self.path.with_name(f"{self.path.name}.sm{capability}{_KERNELS_SUFFIX}")

    def damage(self) -> str | None:
        """Why the file is not what was stored, or None: who may write to it, its size and its SHA-256 are compared.

        The sidecar holds the digest, so that whoever can write both can bring any engine to run.
        """
        if not self.path.is_file():
            return "the file is missing"
        for place in (self.path, self.path.with_suffix(".json"), self.path.parent, self.path.parent.parent):
            if stranger := stranger_who_writes(place):
                return f"{stranger} may write to '{place}'"
        if self.path.stat().st_size != self.sidecar["engine"]["bytes"]:
            return "its size is not the one that was stored"
        return None if sha256_of(self.path) == self.sidecar["engine"]["sha256"] else "its SHA-256 is not the stored one"

    def read(self) -> bytes:
        """The engine.

        Raises:
            RuntimeError: the file is gone, or is not what was stored.
        """
        try:
            engine = self.path.read_bytes()
        except OSError as error:
            raise RuntimeError(f"the engine '{self.path}' cannot be read ({error.strerror})") from error
        if hashlib.sha256(engine).hexdigest() != self.sidecar["engine"]["sha256"]:
            raise RuntimeError(f"the engine '{self.path}' is not what was stored")
        return engine


def cache_folder() -> Path:
    """Where engines are kept; see the module's text."""
    own = os.environ.get("LACO_ENGINE_CACHE")
    if own:
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "laco-export" / "engines"


class EngineCache:
    """The folder of engines.

    Args:
        folder: default: :func:`cache_folder`.
    """

    def __init__(self, folder: Path | str | None = None):
        self.folder = Path(folder) if folder is not None else cache_folder()

    def path_of(self, key: EngineKey) -> Path:
        """Where an engine of ``key`` is or will be."""
        return self.folder / key.graph_sha256[:16] / f"{key.digest[:32]}.engine"

    def find(self, key: EngineKey) -> StoredEngine | None:
        """The stored engine of exactly this key, or None; its content is not checked yet (``damage()``)."""
        stored = _read(self.path_of(key).with_suffix(".json"))
        return stored if stored is not None and not stored.outdated and stored.key == key else None

    def engines_of(self, graph_sha256: str) -> list[StoredEngine]:
        """All engines of a graph, for whatever device, the one that was last asked for first."""
        sidecars = sorted((self.folder / graph_sha256[:16]).glob("*.json"))
        engines = [stored for stored in map(_read, sidecars) if stored and stored.key.graph_sha256 == graph_sha256]
        return sorted(engines, key=lambda stored: stored.sidecar["asked_at"], reverse=True)

    def seal(self, key: EngineKey, facts: dict) -> StoredEngine:
        """Make the engine file at :meth:`path_of` a stored engine by writing its sidecar.

        Args:
            facts: what else the sidecar says.
        """
        path = self.path_of(key)
        sidecar = {
            "schema_version": SIDECAR_SCHEMA,
            "key": asdict(key),
            "engine": {"bytes": path.stat().st_size, "sha256": sha256_of(path)},
            "asked_at": _now(),
            **facts,
        }
        write_json(path.with_suffix(".json"), sidecar)
        self._drop_stale_kernels(key)
        return StoredEngine(path, sidecar)

    def annotate(self, stored: StoredEngine, facts: dict | None = None) -> StoredEngine:
        """Note that an engine was asked for (now it is the one that runs), and what else became known of it."""
        sidecar = {**stored.sidecar, "asked_at": _now(), **(facts or {})}
        with contextlib.suppress(OSError):  # a cache that may only be read serves all the same
            write_json(stored.path.with_suffix(".json"), sidecar)
        return StoredEngine(stored.path, sidecar)

    def forget(self, key: EngineKey) -> None:
        """Remove an engine; the sidecar first, so that half an engine is never found."""
        engine = self.path_of(key)
        for path in (engine.with_suffix(".json"), engine, *engine.parent.glob(f"{engine.name}.*{_KERNELS_SUFFIX}")):
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    def _drop_stale_kernels(self, built: EngineKey) -> None:
        """Remove compiled kernels that nothing here loads any more: of the engine that was just built anew, of engines
        that are gone, and of engines for another version of its library."""
        loadable = {
            stored.path.name
            for stored in self.engines_of(built.graph_sha256)
            if stored.key != built and (stored.key.library != built.library or stored.key.version == built.version)
        }
        for path in self.path_of(built).parent.glob(f"*{_KERNELS_SUFFIX}"):
            if path.name.split(".sm")[0] not in loadable:
                with contextlib.suppress(OSError):
                    path.unlink()


def stranger_who_writes(place: Path) -> str | None:
    """Who besides this user and root may put something else there, or None. A group counts as this user's own: many
    systems give each user one."""
    facts = place.stat()
    if hasattr(os, "geteuid") and facts.st_uid not in (0, os.geteuid()):
        return f"another user ({facts.st_uid})"
    sticky = stat.S_ISDIR(facts.st_mode) and facts.st_mode & stat.S_ISVTX  # entries there are their owners' alone
    return "everybody" if facts.st_mode & stat.S_IWOTH and not sticky else None


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="microseconds")


def _read(sidecar: Path) -> StoredEngine | None:
    """A stored engine by its sidecar; None where that is missing, damaged or of another schema."""
    try:
        document = json.loads(sidecar.read_text(encoding="utf-8"))
        stored = StoredEngine(sidecar.with_suffix(".engine"), document)
        readable = 1 <= document["schema_version"] <= SIDECAR_SCHEMA
        complete = readable and document["engine"]["sha256"] and document["asked_at"]
        return stored if complete and stored.key.digest else None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
