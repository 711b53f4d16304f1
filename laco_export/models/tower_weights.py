"""A checkpoint's vision tower and projector without its language model, and their way back into a checkpoint.

What trains the tower alone needs neither the memory of the language model nor its rounding: its tensors go from file
to file as they are.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import torch
from safetensors import safe_open
from torch import nn
from transformers import GenerationConfig

from .configuration import LacoConfig
from .modeling import LacoForConditionalGeneration
from .unallocated import parameters_without_memory

_LANGUAGE_MODEL = "language_model."


def load_tower(
    folder: Path, weights: Sequence[Path], config: LacoConfig, *, mapped: bool = False
) -> LacoForConditionalGeneration:
    """The model of audited weight files with the language model on the meta device, the rest in FP32.

    Args:
        mapped: leave weights that are stored in FP32 in the file's pages, for who only reads them.
    """
    with parameters_without_memory():
        model = LacoForConditionalGeneration(config)
    model.language_model.to("meta")
    model.language_model.tie_weights()  # beside transformers 5 a parameter of two modules becomes two
    take_tower(model, weights, mapped=mapped)
    if (folder / "generation_config.json").is_file():
        model.generation_config = GenerationConfig.from_pretrained(folder)
    return model.eval()


def take_tower(model: LacoForConditionalGeneration, weights: Sequence[Path], *, mapped: bool = False) -> None:
    """Read all weights of ``model`` but the language model's, as :func:`load_tower`."""
    names = {name for name in model.state_dict() if not name.startswith(_LANGUAGE_MODEL)}
    tensors = {name: tensor.to(torch.float32, copy=not mapped) for name, tensor in stored_tensors(weights, names)}
    model.load_state_dict(tensors, strict=False, assign=True)


def let_go_of_tower(model: LacoForConditionalGeneration) -> None:
    """Leave the vision tower and the projector as modules whose weights are on the meta device and take no memory;
    :func:`take_tower` brings them back."""
    if model.image_newline is not None:
        model.image_newline = nn.Parameter(model.image_newline.detach().clone())  # a view would hold the mapped file
    for part in (model.vision_model, model.projector):
        for module in part.modules():
            for name, parameter in list(module.named_parameters(recurse=False)):
                setattr(module, name, nn.Parameter(parameter.to("meta"), parameter.requires_grad))
                # Others keep the old parameter: onnxscript's rules hold on to the last graph that they matched.
                parameter.data = parameter.new_empty(0)


def stored_tensors(weights: Sequence[Path], names: Collection[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """Those of the named tensors that the files hold, in their stored dtypes; pages of a file are read when used."""
    for path in weights:
        with safe_open(path, framework="pt") as file:
            for name in file.keys():  # noqa: SIM118, no mapping
                if name in names:
                    yield name, file.get_tensor(name)


def updated_tensors(weights: Sequence[Path], model: LacoForConditionalGeneration) -> dict[str, torch.Tensor]:
    """All tensors of a model's checkpoint, on the CPU: those that still have the values of ``weights`` (and those on
    the meta device) as they are stored there, bit for bit, and the others as the model has them."""
    state = model.state_dict()
    tensors = {name: tensor.cpu() for name, tensor in state.items() if tensor.device.type != "meta"}
    for name, stored in stored_tensors(weights, state.keys()):
        if name not in tensors or _equal(stored, tensors[name]):
            tensors[name] = stored
    return tensors


def _equal(stored: torch.Tensor, tensor: torch.Tensor) -> bool:
    return stored.shape == tensor.shape and torch.equal(stored.to(tensor.dtype), tensor)
