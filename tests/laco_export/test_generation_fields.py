"""The white list of generation fields: what it takes, and what it refuses by name."""

import pytest

from laco_export.field_types import FieldError
from laco_export.generation_fields import check_generation_fields

QWEN = {
    "bos_token_id": 151643,
    "pad_token_id": 151643,
    "do_sample": True,
    "eos_token_id": [151645, 151643],
    "repetition_penalty": 1.1,
    "temperature": 0.7,
    "top_p": 0.8,
    "top_k": 20,
    "transformers_version": "4.43.1",
}
"""Qwen2.5-0.5B-Instruct's file."""


def test_published_files_are_taken():
    check_generation_fields(QWEN)
    check_generation_fields({"_from_model_config": True, "eos_token_id": 2, "max_length": 8192, "stop_strings": None})
    check_generation_fields({"do_sample": False, "temperature": 0})
    check_generation_fields({"output_attentions": False, "output_hidden_states": False})  # of transformers 5


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"repetition_penalty": 1e-38}, "repetition_penalty"),
        ({"temperature": float("nan")}, "temperature"),
        ({"temperature": 0}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"stop_strings": ["."]}, "stop_strings"),
        ({"max_time": 0.01}, "max_time"),
        ({"num_return_sequences": 2}, "num_return_sequences"),
        ({"num_beams": 4}, "num_beams"),
        ({"eos_token_id": "2"}, "eos_token_id"),
        ({"output_attentions": True}, "output_attentions"),
        ({"eos_token_id": [2, -1]}, "eos_token_id[1]"),
        ({"forced_bos_token_id": 3}, "forced_bos_token_id"),
    ],
    ids=str,
)
def test_any_other_field_or_value_is_refused_by_name(fields, named):
    with pytest.raises(FieldError) as caught:
        check_generation_fields({**QWEN, **fields})
    assert caught.value.place == named


def test_a_file_that_is_no_object():
    with pytest.raises(FieldError):
        check_generation_fields([QWEN])
