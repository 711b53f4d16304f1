"""Whether one model can teach another, and by which windows its tokens become the other's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from laco_export.errors import ConfigError
from laco_export.token_grid import merged_grid

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from laco_export.models import LacoForConditionalGeneration


def merge_ratios(model: LacoForConditionalGeneration) -> tuple[int, ...]:
    """r of each merge that the model's tokens pass at the depth that is set, in order."""
    return (model.vision_model.compression.ratio,)


def check_pair(teacher: LacoForConditionalGeneration, student: LacoForConditionalGeneration) -> None:
    """Whether one can teach the other.

    Raises:
        ConfigError: the teacher merges inside, the student does not, the two have different towers, or their features
            cannot be compared.
    """
    if (compression := teacher.config.compression_config).method is not None:
        raise ConfigError(
            "a teacher has compression off, or its own window outside the encoder",
            given=f"a teacher that merges inside: {compression.method} at {', '.join(compression.depths)}",
            todo="give the checkpoint that laco-train init --from-vlm made without --at",
        )
    if student.config.compression_config.method is None:
        raise ConfigError("the student has no merge to be taught", todo="give a depth with --at")
    for what, of_teacher, of_student in _facts(teacher, student):
        if of_teacher != of_student:
            raise ConfigError(
                f"teacher and student have different {what}", given=f"{of_student}", allowed=f"{of_teacher}"
            )


def _facts(teacher, student) -> Iterator[tuple[str, object, object]]:
    """What must be the same of both, by its name."""
    yield "towers", *_differing_fields(teacher.config.vision_config, student.config.vision_config)
    configs = teacher.config, student.config
    yield "feature layers", *(config.feature_layer for config in configs)
    yield "widths of the language model", *(config.text_config.hidden_size for config in configs)
    grid = teacher.token_grid
    if grid != student.token_grid:
        for ratio in merge_ratios(student):
            grid = merged_grid(*grid, ratio)
    yield "token grids, after the means of the teacher's windows", grid, student.token_grid


def _differing_fields(teacher: PretrainedConfig, student: PretrainedConfig) -> list[dict]:
    """The fields in which two configurations differ, with each one's values; how they are stored apart."""
    pair = [
        {**config.to_dict(), "dtype": None, "torch_dtype": None, "_name_or_path": None} for config in (teacher, student)
    ]
    names = [name for name in pair[0].keys() | pair[1].keys() if pair[0].get(name) != pair[1].get(name)]
    return [{name: values.get(name) for name in sorted(names)} for values in pair]
