"""Whether one model can teach another, and by which windows its tokens become the other's."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from laco_export.errors import ConfigError
from laco_export.token_grid import merged_grid

if TYPE_CHECKING:
    from transformers import PretrainedConfig

    from laco_export.models import LacoForConditionalGeneration


def remaining_ratios(ratios: Sequence[int], window: int) -> tuple[int, ...]:
    """The windows over a teacher's features that a student's merges still make one, where the teacher has made one of
    ``window`` x ``window`` tokens by itself.

    ::

        merge 2, no window: 2       merge 2, window 2: none       merges 2 and 3, window 2: 3       merge 4, window 2: 2

    Args:
        ratios: r of each merge, in the order in which tokens pass them.

    Raises:
        ConfigError: the merges do not make up whole windows.
    """
    rest = []
    for ratio in ratios:
        if window % ratio == 0:
            window //= ratio
        elif ratio % window == 0:
            rest.append(ratio // window)
            window = 1
        else:
            raise ConfigError(
                "the student's merges do not make up whole windows of the teacher's",
                given=f"ratios {'+'.join(map(str, ratios))}, window {window}",
                allowed="merges that begin with the teacher's window",
            )
    return tuple(rest)


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
    for ratio in remaining_ratios(student.vision_model.path.ratios, teacher.config.projector_window):
        grid = merged_grid(*grid, ratio)
    yield "token grids, after the means of the teacher's windows", grid, student.token_grid


def _differing_fields(teacher: PretrainedConfig, student: PretrainedConfig) -> list[dict]:
    """The fields in which two models would differ, with each one's values."""
    from laco_export.models.stated_config import computing_fields

    pair = [{"model_type": config.model_type, **computing_fields(config)} for config in (teacher, student)]
    names = [name for name in pair[0].keys() | pair[1].keys() if pair[0].get(name) != pair[1].get(name)]
    return [{name: values.get(name) for name in sorted(names)} for values in pair]
