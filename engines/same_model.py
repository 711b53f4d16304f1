"""Whether bundles are of one model, so that their answers, times and sizes may stand beside each other.

One model at other depths, in other precisions, with another vocabulary or trained further is one model here; another
encoder, another language model or pixels normalised otherwise is another. File hashes tell nothing of that: each export
has its own.
"""

from __future__ import annotations

from collections.abc import Mapping

from laco_export.bundle import Bundle
from laco_export.errors import UsageError

_ENCODER = ("model_type", "num_blocks", "hidden_size", "patch_size")
_DECODER = ("model_type", "hidden_size")
_PIXELS = ("image_mean", "image_std")


def require_same_model(bundles: Mapping[str, Bundle]) -> None:
    """Refuse bundles of different models.

    Args:
        bundles: name, as the user knows it, → bundle. One without a language model may stand beside one that has it.

    Raises:
        UsageError: two of them differ; the message names the fact and what each has.
    """
    facts = {name: _facts(bundle) for name, bundle in bundles.items()}
    names = {fact for own in facts.values() for fact in own}
    for fact in sorted(names):
        stated = {name: own[fact] for name, own in facts.items() if fact in own}
        if len(set(stated.values())) > 1:
            raise UsageError(
                f"the bundles are of different models: they differ in {fact}",
                given="; ".join(f"{name}: {value}" for name, value in stated.items()),
                allowed="one model at other depths, in other precisions, or trained further",
                todo="give the bundles of each model to a command of their own",
            )


def _facts(bundle: Bundle) -> dict[str, str]:
    """What identifies the model, as text; facts that an earlier version did not write are left out."""
    manifest = bundle.manifest
    facts = {f"the encoder's {name}": manifest.encoder.get(name) for name in _ENCODER}
    facts |= {f"preprocessing's {name}": manifest.preprocessing.get(name) for name in _PIXELS}
    if manifest.decoder is not None:
        facts |= {f"the language model's {name}": getattr(manifest.decoder, name) for name in _DECODER}
    return {name: str(value) for name, value in facts.items() if value is not None}
