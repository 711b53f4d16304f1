"""Teacher and student from checkpoint folders, and the student's way back into one.

The student of a teacher alone is the teacher with merges put inside; one that was taught before goes on from where it
stands. Where no loss asks for the language model, it is never read: its tensors go from the teacher's files into the
student's as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from laco_export import weight_files
from laco_export.errors import ConfigError
from laco_export.models import checkpoint
from laco_export.models.merging import merge_inside
from laco_export.models.tensor_audit import refuse_not_finite
from laco_export.models.tower_weights import updated_tensors

if TYPE_CHECKING:
    from laco_export.models import LacoForConditionalGeneration, LacoProcessor

    from ..recipe import CompressionRecipe


@dataclass(frozen=True)
class LoadedStudent:
    """A student, and where it comes from.

    Attributes:
        model: without a loss on it, its language model is on the meta device.
        processor: the student's own.
        start: the folder whose tensors those are that are not trained.
        teacher_sha256: of the teacher's checkpoint.
        sha256: of the student's, where it has one.
    """

    model: LacoForConditionalGeneration
    processor: LacoProcessor
    start: Path
    teacher_sha256: str
    sha256: str | None = None


def open_pair(
    teacher: Path, compression: CompressionRecipe, *, student: Path | None = None, language_model: bool = False
) -> tuple[LacoForConditionalGeneration, LoadedStudent]:
    """Load a teacher, and make or load its student; the two may share tensors.

    Args:
        teacher: a checkpoint with compression off.
        compression: the student's merges, where it is made.
        student: a checkpoint with merges, to go on with.
        language_model: load it too.

    Raises:
        CheckpointError: a folder is no checkpoint, or damaged, or what is loaded of it holds inf or NaN.
        ConfigError: the teacher merges inside already; ``compression`` names no merge that starts as an average.
    """
    loaded = _load(teacher, language_model)
    if student is None:
        return loaded.model, _made(loaded, compression)
    taught = _load(student, language_model)
    return loaded.model, LoadedStudent(taught.model, taught.processor, student, loaded.sha256, taught.sha256)


def write_student(student: LoadedStudent, output: Path, *, files: Mapping[str, str], force: bool) -> None:
    """Write the student's checkpoint: what was trained, and everything else as it was stored.

    Args:
        files: training records, see :func:`~laco_export.models.checkpoint.save`.
    """
    tensors = updated_tensors(weight_files.find(student.start), student.model)
    checkpoint.save(student.model.eval(), student.processor, output, force=force, state_dict=tensors, files=files)


def _load(folder: Path, language_model: bool) -> checkpoint.Checkpoint:
    """A checkpoint, refused where what is loaded of it holds inf or NaN: every loss would."""
    loaded = checkpoint.load(folder, without_language_model=not language_model)
    refuse_not_finite(folder, loaded.model.named_parameters())
    return loaded


def _made(loaded: checkpoint.Checkpoint, compression: CompressionRecipe) -> LoadedStudent:
    options = compression.options()
    if (method := options.pop("method")) != "laco":
        raise ConfigError(
            "a student's merge starts as the average of its window",
            given=f"compression.method {method}",
            allowed="laco: the one merge that can",
        )
    student = merge_inside(loaded.model, options.pop("at"), **options)
    return LoadedStudent(student, loaded.processor.fitted_to(student), loaded.path, loaded.sha256)
