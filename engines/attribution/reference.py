"""Whether a bundle can be the reference of another: the same checkpoint at the same depth, parts of the same shapes."""

from __future__ import annotations

from laco_export.bundle import Bundle
from laco_export.carried_depths import UNMERGED
from laco_export.errors import BundleError, DepthError, UsageError

from ..same_model import require_same_model

_GEOMETRY = ("token_grid", "tiling", "token_layout")


def reference_at_depth(reference: Bundle, bundle: Bundle) -> Bundle:
    """The reference at the depth of ``bundle``, both perhaps not verified yet.

    Args:
        bundle: of one depth.

    Raises:
        BundleError: one of them has no language model.
        UsageError: they are of different models, checkpoints or depths, or their graphs take other pictures.
    """
    _require_answers(reference, bundle)
    _require_same_checkpoint(reference, bundle)
    depth = bundle.depths[0]
    try:
        at_depth = reference.at(depth)
    except DepthError:
        raise UsageError(
            f"the reference '{reference.path}' is of another depth, so its parts are not the bundle's",
            given=", ".join(reference.depths),
            allowed=f"depth {depth}, of '{bundle.path}'",
            todo=_export_one(depth),
        ) from None
    _require_same_shapes(at_depth, bundle)
    return at_depth


def _require_answers(*bundles: Bundle) -> None:
    for bundle in bundles:
        if bundle.manifest.decoder is None:
            raise BundleError(
                f"bundle '{bundle.path}' has no language model, so no answer of it can be compared",
                todo="export the checkpoint again without --no-llm",
            )


def _require_same_checkpoint(reference: Bundle, bundle: Bundle) -> None:
    expected, actual = (each.manifest.source for each in (bundle, reference))
    if expected["sha256"] == actual["sha256"]:
        return
    require_same_model({str(bundle.path): bundle, str(reference.path): reference})
    raise UsageError(
        f"the reference '{reference.path}' was made from another checkpoint, so its weights are not the bundle's",
        given=f"{actual['name']}, SHA-256 {actual['sha256']}",
        allowed=f"{expected['name']}, SHA-256 {expected['sha256']}",
        todo=_export_one(bundle.depths[0]),
    )


def _require_same_shapes(reference: Bundle, bundle: Bundle) -> None:
    expected, actual = _pictures_of(bundle), _pictures_of(reference)
    for name, value in expected.items():
        if actual[name] != value:
            raise UsageError(
                f"the reference '{reference.path}' lays out pictures otherwise than '{bundle.path}': {name}",
                given=actual[name],
                allowed=value,
                todo=_export_one(bundle.depths[0]),
            )


def _pictures_of(bundle: Bundle) -> dict[str, object]:
    """How pictures are laid out, from pixels to tokens, by name."""
    vision = bundle.manifest.vision
    return {
        "pixels": vision.graphs[0].input.shape[1:],
        "features": vision.graphs[0].output.shape[1:],
        **{name: getattr(vision, name) for name in _GEOMETRY},
    }


def _export_one(depth: str) -> str:
    at = "" if depth == UNMERGED else f" --at {depth}"
    return f"make one of the same checkpoint: laco-export --model CKPT{at} --fp32"
