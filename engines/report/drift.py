"""How far each block's output drifts from PyTorch's: what the bundle's proof and calibration measured."""

from __future__ import annotations

import math
from dataclasses import dataclass

from laco_export.agreement import Agreement
from laco_export.bundle import Manifest


@dataclass(frozen=True)
class BlockDrift:
    """One boundary of the tower.

    Attributes:
        name: of its PyTorch module, shortened: ``layer.3``.
        error: ``‖exported − PyTorch‖ / ‖PyTorch‖`` on the worst golden picture; None where it is not finite.
    """

    name: str
    error: float | None


@dataclass(frozen=True)
class TowerDrift:
    """Of one bundle's vision tower, block after block.

    Attributes:
        judged_by: what computed the exported graph; pictures: how many golden ones.
        points: of a calibrated tower: hundredths of cosine or norm ratio lost on the worst judging picture.
    """

    judged_by: str
    pictures: int
    blocks: tuple[BlockDrift, ...]
    points: float | None


def tower_drift(manifest: Manifest) -> TowerDrift | None:
    """What the manifest says; None where the bundle carries no comparison of its blocks."""
    accuracy = manifest.accuracy
    blocks = tuple(BlockDrift(_short(entry["name"]), _error(entry)) for entry in accuracy.get("tensors", []))
    if not blocks:
        return None
    calibration = manifest.vision.calibration or {}
    return TowerDrift(
        accuracy.get("judged_by", "the exporter"),
        len(accuracy.get("pictures", [])),
        blocks,
        calibration.get("points"),
    )


def _error(entry: dict) -> float | None:
    numbers = [entry[name] for name in ("cosine", "norm_ratio", "max_abs")]
    if None in numbers:
        return None
    error = Agreement(entry["name"], *numbers, largest=math.nan, worst_token_cosine=math.nan).relative_error
    return error if math.isfinite(error) else None


def _short(name: str) -> str:
    """``layer.3`` of ``vision_model.encoder.encoder.layer.3``; ``block_6.residual`` of a merge's branch."""
    parts = name.split(".")
    return (
        ".".join(parts[-2:])
        if len(parts) > 1 and (parts[-1].isdigit() or parts[-2].startswith("block_"))
        else parts[-1]
    )
