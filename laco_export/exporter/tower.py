"""The part of the model that becomes the vision graph, with its boundaries named.

The tracer and the PyTorch side of the comparison run this one module, so that a boundary's name means the same tensor
on both sides. Boundaries are named by PyTorch module paths inside the whole model.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn


class VisionTower(nn.Module):
    """Vision encoder, merges and projector: ``pixel_values [B, 3, H, W]`` -> ``image_features [B, tokens, D]``.

    Attributes:
        boundary_names: the names of the tensors that follow ``image_features``, in order: embeddings, each block, each
            merge's residual branch and the merge, the final norm.
    """

    def __init__(self, model: nn.Module):
        super().__init__()
        self.vision_model = model.vision_model
        self.projector = model.projector
        self.boundary_names = [f"vision_model.{name}" for name in self._boundaries()]

    def forward(self, pixel_values: Tensor) -> tuple[Tensor, ...]:
        """``image_features`` and then every boundary's hidden states ``[B, tokens, C]``."""
        seen: dict[str, Tensor] = {}
        observe = lambda name, tensor: seen.setdefault(f"vision_model.{name}", tensor)
        with self._observed_residuals(observe):
            features = self.projector(self.vision_model(pixel_values, observe), self.vision_model.merged_grid)
        return (features, *(seen[name] for name in self.boundary_names))

    def _boundaries(self) -> Iterator[str]:
        for name in self.vision_model.boundary_names:
            if name in self._residuals:
                yield f"{name}.residual"
            # An Identity (InternViT's final norm) hands on the tensor before it: the graph has one name for the two.
            if name == "embeddings" or not isinstance(self.vision_model.get_submodule(name), nn.Identity):
                yield name

    @property
    def _residuals(self) -> dict[str, nn.Module]:
        """By the boundary of a merge in use its residual branch, where it has one."""
        path = self.vision_model.path
        branches = {
            f"compressors.{name}": getattr(self.vision_model.merge_module(name), "residual", None)
            for name in (path.module_names if path else ())
        }
        return {name: branch for name, branch in branches.items() if isinstance(branch, nn.Module)}

    @contextmanager
    def _observed_residuals(self, observe) -> Iterator[None]:
        def reporter(name: str):
            return lambda module, args, output: observe(f"{name}.residual", output)

        hooks = [branch.register_forward_hook(reporter(name)) for name, branch in self._residuals.items()]
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()


@contextmanager
def eager_attention(model: nn.Module) -> Iterator[None]:
    """Run the encoder's attention as MatMul, scale, Softmax, MatMul: the form that a trace can keep readable."""
    encoder = model.vision_model.encoder
    before = encoder.config._attn_implementation
    encoder.set_attn_implementation("eager")
    try:
        yield
    finally:
        encoder.set_attn_implementation(before)
