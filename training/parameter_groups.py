"""Which parameter belongs to which part of the model, by module and never by name.

LLaVA's trainer finds the vision encoder by a substring of parameter names; the merge layer stands inside the vision
tower and would silently get the encoder's learning rate, a fifth of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from .recipe import GROUPS

if TYPE_CHECKING:
    from torch import nn

    from laco_export.models import LacoForConditionalGeneration


def group_modules(model: LacoForConditionalGeneration) -> dict[str, nn.Module]:
    """The four parts, by the names that recipes use."""
    vision = model.vision_model
    modules = (vision.encoder, vision.compressors, model.projector, model.language_model)
    return dict(zip(GROUPS, modules, strict=True))


def parameters_by_group(model: LacoForConditionalGeneration) -> dict[str, list[nn.Parameter]]:
    """Every parameter of the model in exactly one group (tied ones once).

    Raises:
        RuntimeError: a parameter stands outside the four parts or in two of them: the model was changed and this file
            was not.
    """
    groups = {name: list(module.parameters()) for name, module in group_modules(model).items()}
    if model.image_newline is not None:  # new with the projector, and in its space
        groups["projector"].append(model.image_newline)
    grouped = [id(parameter) for parameters in groups.values() for parameter in parameters]
    if sorted(grouped) != sorted(id(parameter) for parameter in model.parameters()):
        raise RuntimeError("the parts' parameters are not those of the whole model, each once")
    return groups


def set_trainable(model: LacoForConditionalGeneration, names: Mapping[str, object]) -> None:
    """Let exactly the named groups be trained."""
    for name, parameters in parameters_by_group(model).items():
        for parameter in parameters:
            parameter.requires_grad_(name in names)


def optimizer_groups(
    model: LacoForConditionalGeneration, learning_rates: Mapping[str, float], weight_decay: float
) -> list[dict]:
    """PyTorch's parameter groups, each with its name, peak rate and weight decay; in the order of ``GROUPS``. Frozen
    parameters are left out.

    Weights decay and vectors (biases, norms, scales, the newline) do not. HF's Trainer means the same, but goes by
    names and misses some norms. With a weight decay a part has two groups of one name.
    """
    parameters = parameters_by_group(model)
    groups = []
    for name in GROUPS:
        if name not in learning_rates:
            continue
        trained = [parameter for parameter in parameters[name] if parameter.requires_grad]
        group = {"name": name, "params": trained, "lr": learning_rates[name], "weight_decay": weight_decay}
        vectors = [parameter for parameter in trained if parameter.ndim < 2] if weight_decay else []
        if vectors:
            group["params"] = [parameter for parameter in trained if parameter.ndim >= 2]
        if group["params"] or not vectors:
            groups.append(group)
        if vectors:
            groups.append({**group, "params": vectors, "weight_decay": 0.0})
    return groups
