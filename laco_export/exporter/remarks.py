"""What is no reason to refuse a bundle and should be known of it: remarks, which become notes of the manifest.

A comparison over black pictures passes whatever the tower computes, and so does one of a tower that gives zeros; a
model whose answers do not depend on the picture answers as PyTorch does, and is of no use.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .decoder.rounding_cost import divergence, given_logits, log_softmax
from .golden_pictures import PreparedPictures
from .pytorch_answers import AskedModel, PytorchAnswers

_FLAT = 1.0  # of 255: a standard deviation below is one colour and its noise
_SAME_FEATURES = 1e-5  # of their norm; FP32 sums in another order differ by 1e-6
_BLIND = 1e-6
"""Nats of KL between the next tokens after two pictures. FP32 alone moves them by less; the least of a model that was
trained to look was 1e4 times as much."""

_NAMED = 3


def remarks_on_tower(pictures: PreparedPictures, features: Sequence[np.ndarray]) -> list[str]:
    """Of the golden pictures: those of one colour, and copies; of their features: zeros, or always the same.

    Args:
        features: the vision tower's behind the projector, float32 ``[1, tokens, D]`` each.
    """
    names, pixels, remarks = pictures.names, pictures.pixels, []
    flat = [name for name, picture in zip(names, pixels) if picture.std((0, 1)).max() < _FLAT]
    if flat:
        which = "all golden pictures are" if len(flat) == len(names) else f"golden pictures ({_listed(flat)}) are"
        remarks.append(f"{which} of one colour: on them nothing was compared that a picture changes")
    if copies := len(pixels) - len({picture.tobytes() for picture in pixels}):
        remarks.append(f"of {len(pixels)} golden pictures {copies} are copies of others, and compare nothing more")
    if zero := [name for name, values in zip(names, features) if not values.any()]:
        remarks.append(f"the image features of {_listed(zero)} are all zero: look at the projector's weights")
    elif _always_the_same(pixels, features):
        remarks.append("the image features do not depend on the picture: different golden pictures have the same")
    return remarks


def _always_the_same(pixels: Sequence[np.ndarray], features: Sequence[np.ndarray]) -> bool:
    """Whether all pictures that differ from the first have its features."""
    first, norm = features[0], np.linalg.norm(features[0])
    others = [values for picture, values in zip(pixels, features) if not np.array_equal(picture, pixels[0])]
    return bool(others) and all(np.linalg.norm(values - first) <= _SAME_FEATURES * norm for values in others)


def remarks_on_blindness(asked: AskedModel, answers: PytorchAnswers) -> list[str]:
    """Whether an answer's first token stays as likely where other golden pictures take the place of those shown."""
    if answers.about_pictures is None:
        return []
    question, logits = answers.about_pictures
    turned = asked.turned(question)
    if turned is None:
        return []
    prompt, language_model = asked.prompt(turned), asked.loaded.model.language_model
    embeds = prompt.embeds(language_model.get_input_embeddings().weight)
    other = given_logits(language_model, embeds, np.array([len(embeds) - 1]))
    if divergence(log_softmax(logits[None]), log_softmax(other))[0] >= _BLIND:
        return []
    return ["the language model is blind: its next token is as likely whichever golden picture it is shown"]


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
