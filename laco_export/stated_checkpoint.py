"""What a checkpoint's folder says of itself, before PyTorch is imported: its JSON files and its weights' headers.

::

    stated = read_stated_checkpoint(folder)   # CheckpointError, ConfigError: milliseconds, not the seconds of an import
    stated.check_weights()
    stated.find("1/2")

All commands ask here before anything heavy is imported. What passes can still be refused by
:mod:`laco_export.models.checkpoint`, which builds the model's classes and reads the weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from . import weight_files
from .compression import CompressionConfig, blocks_up_to
from .errors import CheckpointError, LacoError, telling_line
from .exportable import require_exportable, require_family
from .merge_path import Ratio
from .published_families import is_published

LACO_MODEL_TYPE = "laco"
"""``model_type`` of a LaCo checkpoint's ``config.json``."""


@dataclass(frozen=True)
class StatedCheckpoint:
    """A checkpoint by its ``config.json``.

    Attributes:
        values: the file's JSON object.
        compression: resolved, unless the file leaves the encoder's number of blocks to its class.
    """

    folder: Path
    values: dict[str, Any]
    compression: CompressionConfig

    @property
    def is_resolved(self) -> bool:
        """Whether the blocks that the merges stand behind are known."""
        return self.compression.method is None or bool(self.compression.blocks)

    def find(self, at: str | None) -> str | None:
        """The carried depth that ``at`` names, as configured; None takes the first, if any. Of one that is resolved.

        Raises:
            DepthError: the checkpoint carries no merges there.
        """
        if at is not None:
            return self.compression.find(at)[0]
        return self.compression.depths[0] if self.compression.method else None

    def check_merges(self, at: Sequence[str], ratio: Ratio | Sequence[Ratio]) -> None:
        """Merges can be put inside, as far as their places and windows go.

        Args:
            at: depths, or paths of them.
            ratio: of their windows, one for all or one for each.

        Raises:
            ConfigError: there are merges already; a ratio that does not exist.
            DepthError: a depth that the encoder does not have.
        """
        self.compression.refuse_merges()
        merges = CompressionConfig(depths=tuple(at), ratio=ratio)
        if (blocks := _encoder_blocks(self.values)) is not None:
            merges.resolved(blocks)

    def check_weights(self) -> None:
        """There are weight files, whole by their headers.

        Raises:
            CheckpointError: see :func:`.weight_files.find`.
        """
        weight_files.find(self.folder)

    def check_exportable(self) -> None:
        """The exporter's graph would not get the language model wrong, as far as the file states it.

        Raises:
            ExportError: see :func:`.exportable.require_exportable`.
        """
        text = self.values.get("text_config")
        if not isinstance(text, dict) or "model_type" not in text:
            return
        heads = "head_dim" in text or {"hidden_size", "num_attention_heads"} <= set(text)
        if heads and "hidden_act" in text:
            require_exportable(SimpleNamespace(**text))
        else:
            require_family(text["model_type"])


def read_stated_checkpoint(folder: Path | str) -> StatedCheckpoint:
    """``config.json`` of a LaCo checkpoint, as far as it can be judged without its classes.

    Raises:
        CheckpointError: no such folder, no LaCo checkpoint, or a file that is no configuration.
        ConfigError: a field of its compression that does not fit.
    """
    folder = Path(folder)
    path = folder / "config.json"
    values = weight_files.read_json(path)
    if values.get("model_type") != LACO_MODEL_TYPE:
        raise CheckpointError(
            f"'{folder}' is not a LaCo checkpoint",
            given=f"model_type {values.get('model_type')!r}",
            allowed=f"model_type {LACO_MODEL_TYPE!r}",
            todo=f"make one of it: laco-train init --from-vlm {folder} --output CKPT" if is_published(values) else None,
        )
    weight_files.refuse_many_layers(folder, values)
    try:
        compression = _compression_of(values)
    except LacoError:
        raise
    except Exception as error:  # whatever a value of another type makes of arithmetic on it
        raise CheckpointError(f"'{path}' is not a valid configuration: {telling_line(error)}") from error
    return StatedCheckpoint(folder, values, compression)


def _compression_of(values: dict) -> CompressionConfig:
    compression, blocks = CompressionConfig.from_mapping(values.get("compression") or {}), _encoder_blocks(values)
    if compression.method is not None and blocks is None:
        return compression
    return compression.resolved(blocks or 0)


def _encoder_blocks(values: dict) -> int | None:
    """L, the blocks that depths are fractions of; None where the file leaves them to the encoder's class."""
    layers = (values.get("vision_config") or {}).get("num_hidden_layers")
    return None if layers is None else blocks_up_to(values.get("feature_layer"), layers)
