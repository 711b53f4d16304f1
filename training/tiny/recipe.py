"""The ``tiny`` section of a recipe: how much is drawn, and how the small parts are made and pretrained (stage 0)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from laco_export.errors import ConfigError

from .dataset import DataSizes


@dataclass(frozen=True)
class Pretraining:
    """Stage 0 of one part.

    Attributes:
        hidden_size, intermediate_size, num_hidden_layers, num_attention_heads: as in the transformers configurations.
        steps, batch_size: of the pretraining.
        learning_rate: AdamW's, for embeddings, norms and heads.
        muon_learning_rate: Muon's, for the weight matrices of the blocks.
        num_key_value_heads: of the LLM; the encoder has none.
    """

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    steps: int
    batch_size: int
    learning_rate: float
    muon_learning_rate: float
    num_key_value_heads: int | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if value is not None and not value > 0:
                raise ConfigError(f"{name} must be above 0", given=value)
        if self.hidden_size % self.num_attention_heads:
            raise ConfigError(
                "hidden_size must be a multiple of num_attention_heads",
                given=f"{self.hidden_size} and {self.num_attention_heads}",
            )


@dataclass(frozen=True)
class TinyStart:
    """Everything that comes before stage 1 of the tiny recipe."""

    data: DataSizes
    encoder: Pretraining
    language_model: Pretraining

    @classmethod
    def from_mapping(cls, values: Any, build: Callable[[type, Any, str], Any]) -> TinyStart:
        """From parsed YAML; ``build`` makes one dataclass and names the path in its errors."""
        if not isinstance(values, Mapping):
            raise ConfigError("tiny must be a mapping", given=type(values).__name__)
        kinds = {"data": DataSizes, "encoder": Pretraining, "language_model": Pretraining}
        made = {name: build(kind, values.get(name) or {}, f"tiny.{name}") for name, kind in kinds.items()}
        return build(cls, {**values, **made}, "tiny")
