from pathlib import Path

import pytest
from PIL import Image

from laco_engines.evaluation.asked import asked, generation_options_of
from laco_export.errors import UsageError

PICTURE = Image.new("RGB", (8, 8))


def test_pictures_and_videos_are_told_apart():
    question = asked("Which?", [PICTURE, "a/photo.PNG", "a/clip.mp4", Path("frames")], {})
    assert question.pictures[1:] == (Path("a/photo.PNG"),)
    assert question.videos == (Path("a/clip.mp4"), Path("frames"))


def test_marks_stay_where_they_are_as_many_as_pictures():
    assert asked("<image> or <image>?", [PICTURE, PICTURE], {}).words == "<image> or <image>?"


def test_marks_of_another_number_are_left_out():
    assert asked("<image> Which <image>?", [PICTURE], {}).words == "Which ?"


def test_what_is_no_picture_is_refused():
    with pytest.raises(UsageError, match="cannot see"):
        asked("Which?", [{"array": [0.0]}], {})


def test_a_task_is_greedy_unless_it_samples():
    greedy = generation_options_of(
        {"max_new_tokens": 16, "temperature": 0, "top_p": 1.0, "num_beams": 1, "do_sample": False}
    )
    assert (greedy.max_new_tokens, greedy.sampled, greedy.top_p) == (16, False, None)
    sampled = generation_options_of({"temperature": 0.7, "top_p": 0.9})
    assert (sampled.temperature, sampled.top_p) == (0.7, 0.9)


def test_a_task_that_names_no_longest_answer_gets_lmms_evals():
    options = generation_options_of({"until": ["ASSISTANT:", ""], "image_aspect_ratio": "original"})
    assert (options.max_new_tokens, options.stop) == (1024, ("ASSISTANT:",))


@pytest.mark.parametrize("argument", [{"num_beams": 4}, {"guidance_scale": 2}])
def test_what_would_change_the_answer_and_is_not_known_is_refused(argument):
    with pytest.raises(UsageError, match=next(iter(argument))):
        generation_options_of(argument)
