"""SigLIP's and CLIP's parts under ``vision_model``, where checkpoints, recipes and bundles have them.

transformers 5 took that level out of its classes::

    4.57   SiglipVisionModel.vision_model.encoder.layers.0
    5      SiglipVisionModel.encoder.layers.0

A checkpoint's tensors and a graph's nodes are named by it. It is put back, so that either version opens what the other
saved.
"""

from __future__ import annotations

import functools
import re
from contextlib import nullcontext

import torch
from torch import nn
from transformers import PreTrainedModel

from ..transformers_versions import IS_5

LEVEL = "vision_model"
_PARTS = r"(embeddings|pre_layrnorm|encoder|post_layernorm|head)\."


@functools.cache
def with_vision_level(model_class: type[PreTrainedModel]) -> type[PreTrainedModel]:
    """``model_class`` itself where it has the level, else a class of the same name around it."""
    if not IS_5:
        return model_class
    family = model_class.__base__  # SiglipPreTrainedModel: how weights start, which attentions there are

    def __init__(self, config, inner: PreTrainedModel | None = None):
        family.__init__(self, config)
        self.vision_model = model_class(config) if inner is None else inner
        with nullcontext() if inner is None else torch.device("meta"):  # where no weight starts anew
            self.post_init()

    def forward(self, *arguments, **options):
        return self.vision_model(*arguments, **options)

    def get_input_embeddings(self) -> nn.Module:
        return self.vision_model.get_input_embeddings()

    members = {"base_model_prefix": LEVEL, "main_input_name": "pixel_values", "__module__": model_class.__module__}
    members |= {method.__name__: method for method in (__init__, forward, get_input_embeddings)}
    return type(model_class.__name__, (family,), members)


def under_level(name: str) -> str:
    """A tensor's name in a folder that either version saved, with the level."""
    return f"{LEVEL}.{name}" if re.match(_PARTS, name) else name


def placed_under_level(encoder: PreTrainedModel, model_class: type[PreTrainedModel]) -> PreTrainedModel:
    """``encoder`` as an instance of ``model_class``, which :func:`with_vision_level` made; none of it is copied."""
    return encoder if isinstance(encoder, model_class) else model_class(encoder.config, inner=encoder)
