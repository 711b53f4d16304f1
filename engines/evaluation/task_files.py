"""lmms-eval's task files, read without importing it, and the files of the paper's three groups.

A group's file lists lmms-eval's own tasks. Over local copies it says where each task's data lie; the tasks stay
lmms-eval's, with their prompts and metrics. A copy is what the hub's client downloads, ``DIR/OWNER/NAME``; videos lie
unpacked in ``DIR/CACHE``, where ``CACHE`` is the task's ``cache_dir`` and ``DIR`` takes ``HF_HOME``'s place.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import yaml

from laco_export.atomic import write_text
from laco_export.errors import LacoError, UsageError
from laco_export.required_packages import require_packages

from .benchmarks import BenchmarkGroup

SHIPPED_GROUPS = Path(__file__).parent / "groups"
"""The groups' files over the hub's data: ``lmms-eval --include_path``."""

_DATA_SUFFIXES = {".parquet", ".json", ".jsonl", ".csv", ".arrow", ".tsv"}


class _TaskLoader(yaml.SafeLoader):
    """Reads a task's file and leaves the functions that it names unread."""


_TaskLoader.add_constructor("!function", lambda loader, node: None)


@dataclass(frozen=True)
class TaskData:
    """Where a task's data come from.

    Attributes:
        task: lmms-eval's name of it.
        dataset: on the hub, ``owner/name``.
        cache_dir: the folder in ``HF_HOME`` that its videos are unpacked into; None of a task of pictures.
    """

    task: str
    dataset: str
    cache_dir: str | None

    def missing(self, data: Path) -> list[str]:
        """What of it is not in ``data``, as the commands that bring it."""
        lacking = []
        folder = data / self.dataset
        if not folder.is_dir() or not any(path.suffix in _DATA_SUFFIXES for path in folder.rglob("*")):
            lacking.append(f"hf download --repo-type dataset {self.dataset} --local-dir {folder}")
        if self.cache_dir is not None and not (data / self.cache_dir).is_dir():
            lacking.append(f"unpack the archives of {folder} into {data / self.cache_dir}")
        return lacking


def tasks_folder() -> Path:
    """lmms-eval's folder of task files; nothing of it is imported.

    Raises:
        PackageMissingError: lmms-eval is not installed.
    """
    require_packages("lmms_eval")
    return Path(find_spec("lmms_eval").submodule_search_locations[0]) / "tasks"


def task_data(names: Iterable[str], folder: Path) -> list[TaskData]:
    """Where the named tasks' data come from, by the files below ``folder``.

    Raises:
        LacoError: a task that this release of lmms-eval does not have.
    """
    files = _files_by_task(folder)
    names = list(names)
    unknown = [name for name in names if name not in files]
    if unknown:
        raise LacoError(
            "this release of lmms-eval lacks tasks of the paper",
            given=", ".join(unknown),
            todo="pip install 'laco-export[eval]' with the project's constraints-eval.txt",
        )
    return [_data_of(name, _read(files[name])) for name in names]


def _files_by_task(folder: Path) -> dict[str, Path]:
    line = re.compile(r"^task:\s*[\"']?([\w-]+)[\"']?\s*$", re.MULTILINE)
    files: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.yaml")):
        if stated := line.search(path.read_text(encoding="utf-8", errors="replace")):
            files.setdefault(stated[1], path)
    return files


def _read(path: Path) -> dict:
    values = yaml.load(path.read_text(encoding="utf-8"), Loader=_TaskLoader)
    included = values.pop("include", ())
    base: dict = {}
    for name in reversed([included] if isinstance(included, str) else list(included)):
        base |= _read(path.parent / name)
    return base | values


def _data_of(task: str, values: dict) -> TaskData:
    fields = values.get("dataset_kwargs") or {}
    return TaskData(task, values["dataset_path"], fields.get("cache_dir") if fields.get("video") else None)


def check_local(every: Iterable[TaskData], data: Path) -> None:
    """Refuse to begin where data are not in ``data``: all that is missing is listed at once.

    Raises:
        UsageError: with the commands that bring them.
    """
    lacking = {entry.task: commands for entry in every if (commands := entry.missing(data))}
    if lacking:
        commands = dict.fromkeys(command for each in lacking.values() for command in each)
        raise UsageError(
            f"'{data}' lacks the data of {len(lacking)} tasks",
            given=", ".join(lacking),
            todo="bring them:\n  " + "\n  ".join(commands),
        )


def group_text(group: BenchmarkGroup, every: Iterable[TaskData] = (), data: Path | None = None) -> str:
    """A group's file: over the hub's data, or over the local copies ``every`` in ``data``."""
    local = {} if data is None else {entry.task: str((data / entry.dataset).resolve()) for entry in every}
    tasks = [{"task": name, "dataset_path": local[name]} if name in local else name for name in group.tasks]
    return yaml.safe_dump({"group": group.lmms_name, "task": tasks}, sort_keys=False)


def write_group(folder: Path, group: BenchmarkGroup, every: Iterable[TaskData] = (), data: Path | None = None) -> None:
    """Write :func:`group_text` into ``folder``, for lmms-eval's ``--include_path``."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / f"{group.lmms_name}.yaml", group_text(group, every, data))
