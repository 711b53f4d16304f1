"""A copy of the sources with a fault planted into it, whose commands are run in processes of their own.

::

    lost = Edit("engines/generation/decoder.py", "what stands there once", "what stands there then")
    source = plant(tmp_path / "source", lost)
    message = source.refusal("laco-engine", "diff", bundle_folder)      # exit 1, no traceback; what it said

A test that finds a fault may share the fault's cause with what it tests. This asks the commands themselves: would a
user have been told?
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from source_tree import PACKAGES, ROOT

COMMANDS = {
    "laco-export": "laco_export.cli",
    "laco-train": "laco_training.cli",
    "laco-engine": "laco_engines.cli",
    "laco-calibrate": "laco_calibration.cli",
}


@dataclass(frozen=True)
class Edit:
    """A fault.

    Attributes:
        file: the source's path from the root of the repository.
        old: text that stands in it exactly once; new: what takes its place.
    """

    file: str
    old: str
    new: str


@dataclass(frozen=True)
class PlantedSource:
    """The packages under ``folder``, by the names that they install under."""

    folder: Path

    def run(self, command: str, *arguments: object) -> tuple[int, str]:
        """Run one of :data:`COMMANDS` of the copy: its exit code, and what it said, all on one line."""
        with tempfile.NamedTemporaryFile() as output:
            job = {
                "module": COMMANDS[command],
                "arguments": [str(argument) for argument in arguments],
                "folder": str(self.folder),
                "output": output.name,
            }
            forks = _forks()
            forks.stdin.write(json.dumps(job) + "\n")
            forks.stdin.flush()
            code = int(forks.stdout.readline())
            return code, " ".join(output.read().decode().split())

    def refusal(self, command: str, *arguments: object) -> str:
        """What the command says where it refuses; everything else fails the test."""
        code, said = self.run(command, *arguments)
        assert code == 1, f"{command} gave {code}: {said}"
        assert "Traceback" not in said, said
        return said


def plant(folder: Path, *edits: Edit, packages: Path | None = None) -> PlantedSource:
    """Copy the sources into ``folder``, which is new, and plant the faults.

    Args:
        packages: a folder of other sources, by the names that they install under.
    """
    for name, package in PACKAGES.items():
        source = ROOT / name if packages is None else packages / package
        shutil.copytree(source, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    for edit in edits:
        top, _, rest = edit.file.partition("/")
        path = folder / PACKAGES[top] / rest
        text = path.read_text(encoding="utf-8")
        assert text.count(edit.old) == 1, f"{edit.file} has it {text.count(edit.old)} times: {edit.old}"
        path.write_text(text.replace(edit.old, edit.new), encoding="utf-8")
    return PlantedSource(folder)


@functools.cache
def _forks() -> subprocess.Popen:
    """The process from which commands are forked; it ends with this one, which closes its stdin."""
    quiet = {"HF_HUB_OFFLINE": "1", "ORT_DISABLE_TELEMETRY": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "200"}
    script = Path(__file__).with_name("fork_commands.py")
    return subprocess.Popen(
        [sys.executable, str(script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, **quiet},
        text=True,
    )
