"""lmms-eval's own command, in processes of its own: what it imports stays out of this one."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from laco_export.errors import LacoError, UsageError
from laco_export.machine import default_threads

from .benchmarks import BenchmarkGroup


@dataclass(frozen=True)
class LmmsRun:
    """A run of a group.

    Attributes:
        model: lmms-eval's name of it, ``laco`` or ``laco_bundle``.
        model_args: its arguments.
        output: the evaluation's folder, which the command runs in. ``tasks/`` holds the group's file.
        data: the folder of local copies; None takes the hub's data.
        limit: questions of each task, the first ones; None asks all.
        processes: which share a task's questions.
    """

    model: str
    model_args: Mapping[str, object]
    group: BenchmarkGroup
    output: Path
    data: Path | None = None
    limit: int | None = None
    processes: int = 1

    def command(self) -> list[str]:
        """As ``subprocess`` takes it."""
        several = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={self.processes}"]
        arguments = {
            "model": self.model,
            "model_args": ",".join(f"{name}={value}" for name, value in self.model_args.items() if value is not None),
            "tasks": self.group.lmms_name,
            "include_path": "tasks",
            "output_path": self._results_folder,
            "batch_size": 1,
            **({} if self.limit is None else {"limit": self.limit}),
        }
        flags = [word for name, value in arguments.items() for word in (f"--{name}", str(value))]
        return [sys.executable, *(several if self.processes > 1 else []), "-m", "lmms_eval", *flags, "--log_samples"]

    def environment(self) -> dict[str, str]:
        """Of the command: with local copies nothing is looked for on the network."""
        variables = dict(os.environ)
        if self.data is not None:
            offline = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
            cache = {"HF_DATASETS_CACHE": str(self.output.resolve() / "datasets")}
            variables |= {"HF_HOME": str(self.data.resolve()), **offline, **cache}
        if self.processes > 1:  # torch.distributed.run would give each process one thread
            variables.setdefault("OMP_NUM_THREADS", str(max(1, default_threads() // self.processes)))
        variables.setdefault("HF_HOME", str(Path.home() / ".cache" / "huggingface"))  # some tasks read it
        return variables

    @property
    def _results_folder(self) -> str:
        return f"lmms-eval/{self.group.name}"

    def run(self) -> Path:
        """Run it; what lmms-eval prints goes to stderr.

        Returns:
            The file of its results.

        Raises:
            LacoError: it wrote none. It says why on stderr, and does not by its exit code.
        """
        before = self._results()
        finished = subprocess.run(self.command(), cwd=self.output, env=self.environment(), stdout=sys.stderr)
        new = self._results() - before
        if not new:
            raise LacoError(
                f"lmms-eval gave no results of {self.group.lmms_name}",
                given=f"exit code {finished.returncode}",
                todo="see its messages above; answers that it had are kept, and the same command goes on from there",
            )
        return max(new)

    def _results(self) -> set[Path]:
        return set(
            (self.output / self._results_folder).rglob("[0-9]*_results.json")
        )  # tasks write files of that end too


def check_argument(name: str, value: object) -> None:
    """Raise :class:`UsageError` where lmms-eval would cut an argument's value in pieces."""
    if any(mark in str(value) for mark in ",={}\"'"):
        raise UsageError(
            f"lmms-eval cannot take this {name}", given=value, allowed="a path without , = { } and quotation marks"
        )
