"""Options are refused where they are made, by the name of their flag."""

import pytest

from laco_engines.generation.options import GenerationOptions
from laco_export.errors import UsageError


@pytest.mark.parametrize(
    ("fields", "flag"),
    [
        ({"max_new_tokens": 0}, "--max-new-tokens"),
        ({"max_new_tokens": 1.5}, "--max-new-tokens"),
        ({"max_new_tokens": True}, "--max-new-tokens"),
        ({"temperature": -0.1}, "--temperature"),
        ({"temperature": float("nan")}, "--temperature"),
        ({"temperature": float("inf")}, "--temperature"),
        ({"temperature": "hot"}, "--temperature"),
        ({"temperature": 1.0, "top_p": 0.0}, "--top-p"),
        ({"temperature": 1.0, "top_p": 1.01}, "--top-p"),
        ({"temperature": 1.0, "top_k": -1}, "--top-k"),
        ({"temperature": 1.0, "min_p": 1.5}, "--min-p"),
        ({"min_p": 0.1}, "--min-p"),
        ({"repetition_penalty": 0}, "--repetition-penalty"),
        ({"presence_penalty": 2.1}, "--presence-penalty"),
        ({"frequency_penalty": float("nan")}, "--frequency-penalty"),
        ({"seed": -1}, "--seed"),
        ({"seed": 2**63}, "--seed"),
        ({"stop": ("end", "")}, "--stop"),
        ({"stop": ""}, "--stop"),
        ({"top_p": 0.5}, "--top-p"),
        ({"top_k": 5}, "--top-k"),
        ({"prompt_lookup": "bundle"}, "--prompt-lookup has no such mode"),
        ({"prompt_lookup": "exact", "temperature": 0.7}, "--prompt-lookup promises"),
    ],
)
def test_a_wrong_value_names_its_flag(fields, flag):
    with pytest.raises(UsageError, match=flag):
        GenerationOptions(**fields)


def test_greedy_takes_the_checkpoints_sampling_away_and_leaves_its_penalty():
    arguments = GenerationOptions().to_generate()
    assert arguments == {
        "num_beams": 1, "do_sample": False, "temperature": None, "top_p": None, "top_k": None, "min_p": None,
    }  # fmt: skip


def test_what_is_not_given_is_left_to_the_checkpoint():
    arguments = GenerationOptions(temperature=0.7, top_k=3).to_generate()
    assert arguments == {"num_beams": 1, "do_sample": True, "temperature": 0.7, "top_k": 3}


def test_one_stop_string_may_be_given_bare():
    assert GenerationOptions(stop="end").stop == ("end",)
