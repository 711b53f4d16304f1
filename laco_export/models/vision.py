"""The vision encoder with the merge inside."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, cat, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from ..depth import Depth
from ..token_grid import merged_grid
from .compressors import build_compressor
from .configuration import LacoConfig
from .encoders import encoder_spec

BoundaryObserver = Callable[[str, Tensor], None]


class LacoVisionModel(nn.Module):
    """A transformers vision encoder whose tokens are merged after block k.

    ::

        pixel_values ─▶ embeddings ─▶ block 1 … k ─▶ merge r×r ─▶ block k+1 … L ─▶ final norm
        [B, 3, H, W]    [B, P+N, C]   N tokens       N/r²         N/r² tokens      [B, N/r², C]

    P prefix tokens (CLS) bypass the merge and are dropped at the end. With ``merge_before_final_norm`` off, a merge at
    k = L stands after the final norm. Without a compression method the features are the encoder's own.

    Attributes:
        block: the merge stands after it; None without one.
        keeper: called in the place of :meth:`before_merge` with this model and the pictures, where a training stage
            keeps what frozen blocks give.
    """

    def __init__(self, config: LacoConfig, encoder: PreTrainedModel | None = None):
        super().__init__()
        self.spec = encoder_spec(config.vision_config.model_type)
        self.encoder = encoder if encoder is not None else self.spec.model_class()(config.vision_config)
        self.compression = config.compression_config
        self.grid = self.spec.grid(config.vision_config)
        self.num_blocks = config.num_encoder_blocks
        self.final_norm = self.spec.final_norm if config.feature_layer is None else None
        self.compressors = nn.ModuleDict(
            {
                f"block_{block}": build_compressor(
                    self.compression.method,
                    config.vision_config.hidden_size,
                    ratio=self.compression.ratio,
                    mlp_hidden_size=self.compression.mlp_hidden_size,
                )
                for block in self.compression.blocks
            }
        )
        self.block = self.compression.blocks[0] if self.compression.blocks else None
        self.keeper: Callable[[LacoVisionModel, Tensor], Tensor] | None = None

    def set_depth(self, depth: Depth | str) -> int:
        """Choose which of the carried compressors runs; returns its block.

        Raises:
            DepthError: the model carries none at that depth.
        """
        _, self.block = self.compression.find(Depth.parse(depth))
        return self.block

    @property
    def merged_grid(self) -> tuple[int, int]:
        """A picture's token grid as the model gives it out: ⌈H/r⌉ × ⌈W/r⌉."""
        return merged_grid(*self.grid, self.compression.ratio if self.compression.method else 1)

    @property
    def boundary_names(self) -> list[str]:
        """The names that ``observe`` is called with, in order; module paths inside this model."""
        names = ["embeddings", *(f"encoder.{self.spec.blocks}.{index}" for index in range(self.num_blocks))]
        norm = [f"encoder.{self.final_norm}"] if self.final_norm else []
        if self.block is None:
            return names + norm
        merge = f"compressors.block_{self.block}"
        if self._merge_is_last:
            return [*names, *norm, merge]
        names.insert(1 + self.block, merge)
        return names + norm

    @property
    def _merge_is_last(self) -> bool:
        return self.block == self.num_blocks and not self.compression.merge_before_final_norm

    def forward(self, pixel_values: Tensor, observe: BoundaryObserver | None = None) -> Tensor:
        """``[B, 3, H, W]`` -> features ``[B, tokens, C]``.

        Args:
            observe: called with each boundary's name and hidden states (prefix tokens included), for comparisons.
        """
        if self.keeper is not None and observe is None:
            return self.from_merge(self.keeper(self, pixel_values))
        return self.from_merge(self.before_merge(pixel_values, observe), observe)

    def before_merge(self, pixel_values: Tensor, observe: BoundaryObserver | None = None) -> Tensor:
        """The encoder's part before the merge (all of it without one): ``[B, 3, H, W]`` -> ``[B, P+N, C]``."""
        return self.until_merge(self.first_blocks(pixel_values, 0, observe), 0, observe)

    def first_blocks(self, pixel_values: Tensor, count: int, observe: BoundaryObserver | None = None) -> Tensor:
        """The embeddings and the first ``count`` blocks: ``[B, 3, H, W]`` -> ``[B, P+N, C]``."""
        hidden_states = self.spec.embed(self.encoder, pixel_values)  # [B, P+N, C]
        _tell(observe, "embeddings", hidden_states)
        return self._run_blocks(hidden_states, 0, count, observe)

    def until_merge(self, hidden_states: Tensor, first: int, observe: BoundaryObserver | None = None) -> Tensor:
        """What lies between the first ``first`` blocks and the merge (the encoder's end without one), ``[B, P+N, C]``
        both."""
        last = self.num_blocks if self.block is None else self.block
        hidden_states = self._run_blocks(hidden_states, first, last, observe)
        return self._normalise(hidden_states, observe) if self.block is None or self._merge_is_last else hidden_states

    def from_merge(self, hidden_states: Tensor, observe: BoundaryObserver | None = None) -> Tensor:
        """The merge and what follows it: ``[B, P+N, C]`` -> features ``[B, tokens, C]``."""
        if self.block is not None:
            hidden_states = self._merge(hidden_states, observe)  # [B, P+N/r², C]
            if not self._merge_is_last:
                hidden_states = self._run_blocks(hidden_states, self.block, self.num_blocks, observe)
                hidden_states = self._normalise(hidden_states, observe)
        return hidden_states[:, self.spec.prefix_tokens :]  # [B, N/r², C]

    def _run_blocks(self, hidden_states: Tensor, first: int, last: int, observe: BoundaryObserver | None) -> Tensor:
        blocks = self.encoder.get_submodule(self.spec.blocks)
        for index, block in enumerate(blocks[first:last], first):
            hidden_states = self.spec.call_block(block, hidden_states)
            _tell(observe, f"encoder.{self.spec.blocks}.{index}", hidden_states)
        return hidden_states

    def _normalise(self, hidden_states: Tensor, observe: BoundaryObserver | None) -> Tensor:
        if self.final_norm:
            hidden_states = self.encoder.get_submodule(self.final_norm)(hidden_states)
            _tell(observe, f"encoder.{self.final_norm}", hidden_states)
        return hidden_states

    def _merge(self, hidden_states: Tensor, observe: BoundaryObserver | None) -> Tensor:
        name, ratio, prefix = f"block_{self.block}", self.compression.ratio, self.spec.prefix_tokens
        height, width = self.grid
        grid = hidden_states[:, prefix:].unflatten(1, (height, width))  # [B, H, W, C]
        if height % ratio or width % ratio:
            # Replicate the last row and column up to whole windows, in [B, C, H, W], the layout that F.pad takes.
            pad = (0, -width % ratio, 0, -height % ratio)
            grid = F.pad(grid.permute(0, 3, 1, 2), pad, mode="replicate").permute(0, 2, 3, 1)
        merged = self.compressors[name](grid).flatten(1, 2)  # [B, N/r², C]
        if prefix:
            merged = cat((hidden_states[:, :prefix], merged), dim=1)
        _tell(observe, f"compressors.{name}", merged)
        return merged


def _tell(observe: BoundaryObserver | None, name: str, hidden_states: Tensor) -> None:
    if observe is not None:
        observe(name, hidden_states)
