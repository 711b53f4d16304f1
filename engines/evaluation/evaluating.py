"""A model on a group of benchmarks: lmms-eval run, its scores taken, the paper's rows beside them.

::

    OUTPUT/evaluation.json     the model, and each group's scores
    OUTPUT/answers/            every answer, as it came (:mod:`.answer_file`)
    OUTPUT/lmms-eval/GROUP/    lmms-eval's results and samples
    OUTPUT/tasks/              the groups' files
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from laco_export.atomic import write_json
from laco_export.bundle import MANIFEST_NAME, read_manifest
from laco_export.errors import UsageError
from laco_export.machine import default_threads

from .answer_file import failed_answers, model_identity
from .benchmarks import BenchmarkGroup
from .lmms_run import LmmsRun, check_argument
from .paper_tables import paper_rows
from .scores import average, cell_text, scores_of
from .task_files import TaskData, write_group

_RUNTIMES = ("runtime", "text_runtime", "provider")


@dataclass(frozen=True)
class EvaluatedModel:
    """A bundle or a checkpoint by its folder.

    Attributes:
        lmms_name: lmms-eval's name of its kind.
        sha256: of a bundle's manifest, or of a checkpoint's configuration and weights.
        arguments: of lmms-eval's model, without the folder of answers.
    """

    path: Path
    lmms_name: str
    sha256: str
    arguments: dict

    @classmethod
    def at_path(cls, path: Path, options) -> EvaluatedModel:
        """Read what the folder says of itself.

        Args:
            options: ``at``, ``frames`` and the machine arguments of the command line.

        Raises:
            BundleError, CheckpointError: it is neither.
            DepthError: it does not carry the depth.
            UsageError: a checkpoint, with arguments of a bundle's runtimes.
        """
        check_argument("path", path)
        shared = {"at": options.at, "max_frames": options.frames}
        runtimes = {name: getattr(options, name) for name in (*_RUNTIMES, "threads")}
        if (path / MANIFEST_NAME).is_file():
            arguments = {"bundle": path.resolve(), **shared, **runtimes}
            return cls(path, "laco_bundle", _bundle_sha256(path, options.at), arguments)
        named = [f"--{name.replace('_', '-')}" for name, value in runtimes.items() if value is not None]
        if named:
            raise UsageError(
                f"'{path}' is a checkpoint, which PyTorch answers for", given=", ".join(named), allowed="of a bundle"
            )
        sha256 = _checkpoint_sha256(path, options.at)
        return cls(path, "laco", sha256, {"checkpoint": path.resolve(), **shared})

    @property
    def title(self) -> str:
        return self.path.resolve().name

    def identity(self) -> dict:
        """What its answers depend on, as :mod:`.lmms_models` states it."""
        runtimes = {name: self.arguments.get(name) for name in _RUNTIMES}
        return model_identity(self.sha256, self.arguments["at"], self.arguments["max_frames"], **runtimes)


def evaluate_group(
    model: EvaluatedModel, group: BenchmarkGroup, output: Path, options, every: Iterable[TaskData]
) -> dict:
    """Run a group, and write its scores into ``evaluation.json`` beside those of other groups.

    Args:
        options: ``data``, ``limit`` and ``processes`` of the command line.
        every: where the tasks' data come from.

    Returns:
        The document: ``model``, ``groups`` and ``not_asked``.

    Raises:
        LacoError: lmms-eval gave no results.
    """
    write_group(output / "tasks", group, every, options.data)
    run = LmmsRun(
        model.lmms_name,
        {**model.arguments, **_shared_threads(model, options.processes), "answers": "answers"},
        group,
        output,
        options.data,
        options.limit,
        options.processes,
    )
    results_file = run.run()
    scores = scores_of(group, results_file)
    entry = {
        "limit": options.limit,
        "results": results_file.relative_to(output).as_posix(),
        "scores": scores,
        "average": average(list(scores.values())),
    }
    document = _document(output, model)
    document["groups"][group.name] = entry
    document["not_asked"] = failed_answers(output / "answers")
    write_json(output / "evaluation.json", document)
    return document


def _shared_threads(model: EvaluatedModel, processes: int) -> dict:
    """The cores' share of each of several processes, of a bundle whose threads nobody named: each would take all."""
    if processes == 1 or "bundle" not in model.arguments or model.arguments["threads"] is not None:
        return {}
    return {"threads": max(1, default_threads() // processes)}


def group_table(group: BenchmarkGroup, entry: dict, title: str):
    """A Rich table: the paper's rows of the group, then the model's."""
    from rich.table import Table

    limited = "" if entry["limit"] is None else f", first {entry['limit']} questions of each task"
    table = Table(title=f"{group.name}, per cent{limited}", title_justify="left")
    table.add_column("", no_wrap=True)
    for name in (*(column.name for column in group.columns), "Avg."):
        table.add_column(name, justify="right")
    training = None
    for number in group.tables:
        for row in paper_rows(number):
            if (number, row.training) != training:
                training = (number, row.training)
                table.add_section()
                table.add_row(f"Table {number}, {row.training}")
            table.add_row(row.model, *map(cell_text, row.scores), f"{row.average:.1f}")
    table.add_section()
    table.add_row(title, *map(cell_text, entry["scores"].values()), cell_text(entry["average"]), style="bold")
    return table


def _document(output: Path, model: EvaluatedModel) -> dict:
    """What ``evaluation.json`` says of this model so far."""
    path = output / "evaluation.json"
    stated: Sequence | dict = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    own = {"name": model.title, "kind": model.lmms_name, **model.identity()}
    groups = stated.get("groups", {}) if isinstance(stated, dict) and stated.get("model") == own else {}
    return {"model": own, "groups": groups, "not_asked": {}}


def _bundle_sha256(path: Path, at: str | None) -> str:
    import hashlib

    read_manifest(path).at(at)
    return hashlib.sha256((path / MANIFEST_NAME).read_bytes()).hexdigest()


def _checkpoint_sha256(path: Path, at: str | None) -> str:
    from laco_export.stated_checkpoint import read_stated_checkpoint

    stated = read_stated_checkpoint(path)
    stated.check_weights()
    if at is not None:
        stated.find(at)
    from laco_export.models.checkpoint import stated_sha256

    return stated_sha256(path)
