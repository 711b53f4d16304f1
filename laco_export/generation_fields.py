"""Which fields a ``generation_config.json`` may have, and what they may hold: a white list, at export and at opening.

Each field that transformers' ``generate`` finds there takes part in every answer: one may end it at texts that need a
tokenizer (``stop_strings``), at a time of day (``max_time``), divide by zero (``repetition_penalty`` 0), or give two
answers where one is awaited. Those below do the same in PyTorch and in a bundle, and an option of ``run`` and ``serve``
takes their place.
"""

from __future__ import annotations

from collections.abc import Mapping

from .field_types import FieldError, FieldType, FlagField, ListField, NumberField, TextField

_TOKEN = NumberField(0, whole=True)
_LENGTH = NumberField(1, whole=True)


class _Tokens:
    """A token's id, or several."""

    def read(self, value, place: str):
        return (ListField(_TOKEN, 1, 1000) if isinstance(value, list) else _TOKEN).read(value, place)


class _Never:
    """False, which asks for nothing: transformers 5 writes it with every configuration that it makes of a model's."""

    def read(self, value, place: str):
        if value is not False:
            raise FieldError(place, value, "false")
        return value


_FIELDS: dict[str, FieldType] = {
    "do_sample": FlagField(),
    "temperature": NumberField(0, 100),
    "top_k": NumberField(0, whole=True),
    "top_p": NumberField(1e-6, 1),
    "min_p": NumberField(0, 1),
    "typical_p": NumberField(1e-6, 1),
    "repetition_penalty": NumberField(0.01, 100),
    "eos_token_id": _Tokens(),
    "bos_token_id": _Tokens(),
    "pad_token_id": _TOKEN,
    "max_length": _LENGTH,
    "max_new_tokens": _LENGTH,
    "num_beams": NumberField(1, 1, whole=True),
    "num_return_sequences": NumberField(1, 1, whole=True),
    "use_cache": FlagField(),
    "transformers_version": TextField(),
    "_from_model_config": FlagField(),
    "output_attentions": _Never(),
    "output_hidden_states": _Never(),
}
GENERATION_FIELDS = tuple(_FIELDS)
"""The white list."""

SAMPLING_FIELDS = ("temperature", "top_k", "top_p", "min_p", "typical_p")
"""Those that choose what is sampled from; they say nothing where ``do_sample`` is false."""


def check_generation_field(name: str, value: object) -> None:
    """Hold one field against the white list; null is as if it were not there.

    Raises:
        FieldError: it is not in the list, or holds what it may not.
    """
    if value is None:
        return
    if name not in _FIELDS:
        raise FieldError(name, value, f"one of {', '.join(GENERATION_FIELDS)}")
    _FIELDS[name].read(value, name)


def check_generation_fields(values: object) -> None:
    """:func:`check_generation_field` for all of a file's; 0 is no temperature to sample at.

    Raises:
        FieldError: the first that is not as it may be.
    """
    if not isinstance(values, Mapping):
        raise FieldError("the document", values, "an object")
    for name, value in values.items():
        check_generation_field(name, value)
    if values.get("do_sample") and values.get("temperature") == 0:
        raise FieldError("temperature", 0, "above 0 where do_sample is true")
