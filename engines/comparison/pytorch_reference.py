"""PyTorch's side of ``laco-engine diff --model``: the checkpoint's own modules on the same pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from laco_export.bundle import IMAGE_FEATURES, Bundle
from laco_export.errors import CheckpointError


def features_and_samples(
    bundle: Bundle, model: Path, pixel_values: np.ndarray, samples: dict[str, tuple[np.ndarray, np.ndarray]]
) -> tuple[np.ndarray, dict[str, tuple[np.ndarray, np.ndarray]]]:
    """Features ``[n, tokens, D]`` and, at the tokens of ``samples``, each boundary's hidden states.

    Raises:
        CheckpointError: the checkpoint is not the one that the bundle was made from.
    """
    import torch

    from laco_export.exporter.tower import VisionTower
    from laco_export.models import checkpoint
    from laco_export.quiet import quiet_libraries

    with quiet_libraries():
        loaded = checkpoint.load(model)
    if loaded.sha256 != bundle.manifest.source["sha256"]:
        raise CheckpointError(
            f"'{model}' is not the checkpoint that this bundle was exported from",
            given=f"SHA-256 {loaded.sha256}",
            allowed=f"SHA-256 {bundle.manifest.source['sha256']} ({bundle.manifest.source['name']})",
            todo="give that checkpoint, or export this one",
        )
    depth = bundle.manifest.compression["depth"]
    if depth is not None:
        loaded = loaded.at_depth(depth)
    tower = VisionTower(loaded.model).eval()
    features: list[np.ndarray] = []
    tokens: dict[str, list[np.ndarray]] = {name: [] for name in samples}
    for picture in pixel_values:
        with torch.inference_mode():
            outputs = tower(torch.from_numpy(picture[None]))
        named = dict(zip([IMAGE_FEATURES, *tower.boundary_names], (output.numpy() for output in outputs)))
        features.append(named[IMAGE_FEATURES][0])
        for name, (indices, _) in samples.items():
            hidden = named[name].reshape(-1, named[name].shape[-1])  # [1, …, C] -> [tokens, C]
            tokens[name].append(hidden[indices])
    return np.stack(features), {name: (samples[name][0], np.stack(sampled)) for name, sampled in tokens.items()}


def prepared_pictures(bundle: Bundle, images: list[Path]) -> tuple[list[str], np.ndarray]:
    """The user's pictures at the encoder's size: names and uint8 ``[n, H, W, 3]``."""
    from laco_export.exporter.golden_pictures import golden_pictures

    prepare = bundle.manifest.image_preprocessing
    pictures = golden_pictures(images, prepare.height)
    return [name for name, _ in pictures], np.stack([prepare.resize_and_crop(image) for _, image in pictures])
