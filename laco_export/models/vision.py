"""The vision encoder with the merge inside."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor, cat, nn
from torch.nn import functional as F
from transformers import PreTrainedModel

from ..depth import Depth
from ..merge_path import DepthPath, MergePath
from .compressors import build_compressor
from .configuration import LacoConfig
from .encoders import encoder_spec

BoundaryObserver = Callable[[str, Tensor], None]


class LacoVisionModel(nn.Module):
    """A transformers vision encoder whose tokens are merged after block k, or after several blocks.

    ::

        pixel_values ─▶ embeddings ─▶ block 1 … k ─▶ merge r×r ─▶ block k+1 … L ─▶ final norm
        [B, 3, H, W]    [B, P+N, C]   N tokens       N/r²         N/r² tokens      [B, N/r², C]

    P prefix tokens (CLS) bypass each merge and are dropped at the end. With ``merge_before_final_norm`` off, a merge at
    k = L stands after the final norm. Without a compression method the features are the encoder's own.

    Attributes:
        path: the merges that run, one of ``compression.paths``; None without any.
        keeper: called in the place of :meth:`before_merge` with this model and the pictures, where a training stage
            keeps what frozen blocks give.
    """

    def __init__(self, config: LacoConfig, encoder: PreTrainedModel | None = None):
        super().__init__()
        self.spec = encoder_spec(config.vision_config.model_type)
        built = self.spec.model_class()(config.vision_config) if encoder is None else encoder
        self.encoder = self.spec.adopt(built)
        self.compression = config.compression_config
        self.grid = self.spec.grid(config.vision_config)
        self.num_blocks = config.num_encoder_blocks
        self.final_norm = self.spec.final_norm if config.feature_layer is None else None
        self.compressors = nn.ModuleDict()
        for path in self.compression.paths:
            self._add_merges(path, config.vision_config.hidden_size)
        self.path: MergePath | None = self.compression.paths[0] if self.compression.paths else None
        self.keeper: Callable[[LacoVisionModel, Tensor], Tensor] | None = None

    def _add_merges(self, path: MergePath, hidden_size: int) -> None:
        method, mlp_hidden_size = self.compression.method, self.compression.mlp_hidden_size
        for name, ratio in zip(path.module_names, path.ratios):
            owner, _, own_name = name.rpartition(".")
            if owner and owner not in self.compressors:
                self.compressors[owner] = nn.ModuleDict()
            merges = self.compressors[owner] if owner else self.compressors
            merges[own_name] = build_compressor(method, hidden_size, ratio=ratio, mlp_hidden_size=mlp_hidden_size)

    def set_depth(self, depth: DepthPath | Depth | str) -> MergePath:
        """Choose which of the carried paths runs (``1/2``, ``1/4+3/4``), and return it.

        Raises:
            DepthError: the model carries none at that depth.
        """
        _, self.path = self.compression.find(depth)
        return self.path

    @property
    def block(self) -> int | None:
        """The first merge stands after it; None without one."""
        return None if self.path is None else self.path.blocks[0]

    def merge_module(self, name: str) -> nn.Module:
        """The compressor of one of :attr:`~laco_export.merge_path.MergePath.module_names`."""
        return self.compressors.get_submodule(name)

    def all_merges(self) -> Iterator[tuple[str, nn.Module]]:
        """``(name, compressor)`` of every merge of every path."""
        for path in self.compression.paths:
            for name in path.module_names:
                yield name, self.merge_module(name)

    @property
    def merged_grid(self) -> tuple[int, int]:
        """A picture's token grid as the model gives it out: ⌈H/r⌉ × ⌈W/r⌉."""
        return self.grid if self.path is None else self.path.grids(self.grid)[-1]

    @property
    def boundary_names(self) -> list[str]:
        """The names that ``observe`` is called with, in order; module paths inside this model."""
        names = ["embeddings", *(f"encoder.{self.spec.blocks}.{index}" for index in range(self.num_blocks))]
        norm = [f"encoder.{self.final_norm}"] if self.final_norm else []
        if self.path is None:
            return names + norm
        merges = [(block, f"compressors.{name}") for block, name in zip(self.path.blocks, self.path.module_names)]
        last = [merges.pop()[1]] if self._ends_after_norm else []
        for block, name in reversed(merges):
            names.insert(1 + block, name)
        return [*names, *norm, *last]

    @property
    def _ends_after_norm(self) -> bool:
        """Whether the path's last merge stands after the final norm."""
        at_last_block = self.path is not None and self.path.blocks[-1] == self.num_blocks
        return at_last_block and not self.compression.merge_before_final_norm

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
        """What lies between the first ``first`` blocks and the first merge (the encoder's end without one), ``[B, P+N,
        C]`` both."""
        return self._run_to_merge(hidden_states, first, self.block, observe)

    def from_merge(self, hidden_states: Tensor, observe: BoundaryObserver | None = None) -> Tensor:
        """The merges and what follows them: ``[B, P+N, C]`` -> features ``[B, tokens, C]``."""
        blocks = () if self.path is None else self.path.blocks
        for place, (block, merge_after) in enumerate(zip(blocks, (*blocks[1:], None))):
            hidden_states = self._merge(hidden_states, place, observe)  # [B, P+N/r², C]
            hidden_states = self._run_to_merge(hidden_states, block, merge_after, observe)
        return hidden_states[:, self.spec.prefix_tokens :]  # [B, N/r², C]

    def _run_to_merge(
        self, hidden_states: Tensor, first: int, merge_after: int | None, observe: BoundaryObserver | None
    ) -> Tensor:
        """The blocks behind block ``first`` up to the next merge or, where none follows, to the end; with the final
        norm where it stands on the way."""
        last = self.num_blocks if merge_after is None else merge_after
        hidden_states = self._run_blocks(hidden_states, first, last, observe)
        norm_is_next = (merge_after is None) != self._ends_after_norm
        return self._normalise(hidden_states, observe) if last == self.num_blocks and norm_is_next else hidden_states

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

    def _merge(self, hidden_states: Tensor, place: int, observe: BoundaryObserver | None) -> Tensor:
        """The path's merge number ``place``, from 0."""
        name, ratio, prefix = self.path.module_names[place], self.path.ratios[place], self.spec.prefix_tokens
        height, width = self.path.grids(self.grid)[place]
        grid = hidden_states[:, prefix:].unflatten(1, (height, width))  # [B, H, W, C]
        if height % ratio or width % ratio:
            # Replicate the last row and column up to whole windows, in [B, C, H, W], the layout that F.pad takes.
            pad = (0, -width % ratio, 0, -height % ratio)
            grid = F.pad(grid.permute(0, 3, 1, 2), pad, mode="replicate").permute(0, 2, 3, 1)
        merged = self.merge_module(name)(grid).flatten(1, 2)  # [B, N/r², C]
        if prefix:
            merged = cat((hidden_states[:, :prefix], merged), dim=1)
        _tell(observe, f"compressors.{name}", merged)
        return merged


def _tell(observe: BoundaryObserver | None, name: str, hidden_states: Tensor) -> None:
    if observe is not None:
        observe(name, hidden_states)
