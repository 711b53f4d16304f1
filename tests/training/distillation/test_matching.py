"""Which models can teach which."""

from copy import deepcopy

import pytest

from laco_export.errors import ConfigError
from laco_export.models.merging import merge_inside
from laco_training.distillation.matching import check_pair, remaining_ratios


@pytest.mark.parametrize(
    ("ratios", "window", "rest"),
    [((2,), 1, (2,)), ((2,), 2, ()), ((2, 3), 2, (3,)), ((4,), 2, (2,)), ((2, 2), 4, ()), ((3,), 1, (3,))],
)
def test_what_is_left_to_average(ratios, window, rest):
    assert remaining_ratios(ratios, window) == rest


def test_merges_across_the_teachers_windows_are_refused():
    with pytest.raises(ConfigError, match="whole windows"):
        remaining_ratios((3, 2), 2)


def test_what_changes_nothing_of_a_tower_is_not_compared(make_pair):
    """How weights started and what training leaves out are no difference; what is computed is, and alone is named."""
    teacher, student = make_pair()
    vision = student.config.vision_config = deepcopy(teacher.config.vision_config)
    vision.initializer_range, vision.attention_dropout, vision.architectures = 0.5, 0.25, ["Another"]
    check_pair(teacher, student)
    vision.rms_norm_eps = 0.125
    with pytest.raises(ConfigError, match="different towers") as caught:
        check_pair(teacher, student)
    assert caught.value.given == "{'rms_norm_eps': 0.125}"


def test_a_teacher_that_merges_is_refused(make_pair):
    teacher, student = make_pair()
    with pytest.raises(ConfigError, match=r"compression off(.|\n)*merges inside: laco at 1/2"):
        check_pair(student, student)
    with pytest.raises(ConfigError, match="no merge to be taught"):
        check_pair(teacher, teacher)


@pytest.mark.parametrize(
    ("other", "said"),
    [
        ({"grid": (6, 6)}, r"different towers(.|\n)*image_size"),
        ({"kind": "siglip"}, r"different towers(.|\n)*model_type"),
        ({"feature_layer": -2}, r"different feature layers(.|\n)*-2"),
    ],
)
def test_different_towers_are_refused(make_tiny_model, make_pair, other, said):
    teacher, _ = make_pair()
    options = {"kind": "aimv2", "grid": (5, 5), **other}
    student = merge_inside(make_tiny_model(options.pop("kind"), blocks=4, method=None, **options), "1/2")
    with pytest.raises(ConfigError, match=said):
        check_pair(teacher, student)
