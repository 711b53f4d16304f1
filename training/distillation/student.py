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

from laco_export.errors import ConfigError
from laco_export.models import checkpoint, weight_files
from laco_export.models.merging import fit_processor, merge_inside
from laco_export.models.tower_weights import updated_tensors

if TYPE_CHECKING:
    from laco_export.models import LacoForConditionalGeneration, LacoProcessor

    from ..recipe import CompressionRecipe


@dataclass(frozen=True)
class LoadedPair:
    """What a stage ``distil`` starts from.

    Attributes:
        teacher, student: models, of which tensors may be shared; without a loss on it, their language model is on the
            meta device.
        processor: the student's.
        start: the folder whose tensors those are that are not trained.
        sha256: of the teacher's checkpoint.
        student_sha256: of the student's, where it has one.
    """

    teacher: LacoForConditionalGeneration
    student: LacoForConditionalGeneration
    processor: LacoProcessor
    start: Path
    sha256: str
    student_sha256: str | None = None


def open_pair(
    teacher: Path, compression: CompressionRecipe, *, student: Path | None = None, language_model: bool = False
) -> LoadedPair:
    """Load a teacher, and make or load its student.

    Args:
        teacher: a checkpoint with compression off.
        compression: the student's merges, where it is made.
        student: a checkpoint with merges, to go on with.
        language_model: load it too.

    Raises:
        CheckpointError: a folder is no checkpoint, or damaged.
        ConfigError: the teacher merges inside already; ``compression`` names no merge that starts as an average.
    """
    loaded = checkpoint.load(teacher, without_language_model=not language_model)
    if student is None:
        return _made(loaded, compression)
    taught = checkpoint.load(student, without_language_model=not language_model)
    return LoadedPair(loaded.model, taught.model, taught.processor, student, loaded.sha256, taught.sha256)


def write_student(pair: LoadedPair, output: Path, *, files: Mapping[str, str], force: bool) -> None:
    """Write the student's checkpoint: what was trained, and everything else as it was stored.

    Args:
        files: training records, see :func:`~laco_export.models.checkpoint.save`.
    """
    tensors = updated_tensors(weight_files.find(pair.start), pair.student)
    checkpoint.save(pair.student.eval(), pair.processor, output, force=force, state_dict=tensors, files=files)


def _made(loaded: checkpoint.Checkpoint, compression: CompressionRecipe) -> LoadedPair:
    options = compression.options()
    if (method := options.pop("method")) != "laco":
        raise ConfigError(
            "a student's merge starts as the average of its window",
            given=f"compression.method {method}",
            allowed="laco: the one merge that can",
        )
    student = merge_inside(loaded.model, options.pop("at"), **options)
    return LoadedPair(loaded.model, student, fit_processor(loaded.processor, student), loaded.path, loaded.sha256)
