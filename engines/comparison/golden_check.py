"""Does a runtime still compute what PyTorch computed at export? numpy alone, so that a device can check itself.

    check = check_golden(bundle, open_runtime(bundle))
    print(check.summary()); check.passed

A bundle carries its golden pictures and PyTorch's features of them (``golden.npz``). The runtime encodes the pictures;
the features are compared by cosine, norm ratio and largest difference, each with the tolerance that the export was
held to.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from laco_export.agreement import Agreement, Tolerance, agreement, worst_of
from laco_export.bundle import IMAGE_FEATURES, Bundle
from laco_export.errors import BundleError
from laco_export.golden import read_golden

from ..runtimes.protocol import VisionRuntime


@dataclass(frozen=True)
class GoldenCheck:
    """A runtime against the expected tensors.

    Attributes:
        runtime: its name, for people.
        against: where the expected tensors come from.
        pictures: one entry per picture: its name and how far the features agree.
        blocks: sampled boundaries where they were asked for, the worst over the pictures.
    """

    runtime: str
    against: str
    pictures: list[tuple[str, Agreement]]
    blocks: list[Agreement]

    @property
    def worst(self) -> Agreement:
        """The features over all pictures."""
        return worst_of([features for _, features in self.pictures])

    @property
    def passed(self) -> bool:
        """All agree, and something was compared."""
        return bool(self.pictures) and self.first_failing is None

    @property
    def first_failing(self) -> Agreement | None:
        """The first tensor out of tolerance: a boundary before the features."""
        tensors = [*self.blocks, *(features for _, features in self.pictures)]
        return next((tensor for tensor in tensors if not tensor.within()), None)

    def summary(self) -> str:
        """One line."""
        verdict = "agrees with" if self.passed else "does not agree with"
        return f"{self.runtime} {verdict} {self.against} on {len(self.pictures)} pictures: {self.worst.numbers()}"

    def to_dict(self) -> dict:
        """The ``--json`` document."""
        return {
            "passed": self.passed,
            "runtime": self.runtime,
            "against": self.against,
            "worst": self.worst.to_dict(),
            "pictures": [{"picture": name, **features.to_dict()} for name, features in self.pictures],
            "blocks": [{**block.to_dict(), "within": block.within()} for block in self.blocks],
        }


def check_golden(bundle: Bundle, runtime: VisionRuntime) -> GoldenCheck:
    """Encode the golden pictures on ``runtime`` and compare the features with PyTorch's of the export.

    Raises:
        BundleError: the bundle has no golden file, or one that cannot be read.
    """
    golden = read_golden(bundle)
    computed = runtime.encode(pixel_values(bundle, golden.pictures))
    return GoldenCheck(
        runtime.name,
        "PyTorch at export",
        compare_features(bundle, golden.names, golden.image_features, computed),
        blocks=[],
    )


def compare_features(
    bundle: Bundle, names: list[str], expected: np.ndarray, computed: np.ndarray
) -> list[tuple[str, Agreement]]:
    """Features ``[n, tokens, D]``, picture by picture."""
    allowed = tolerance(bundle)
    pairs = zip(names, expected, computed, strict=True)
    return [(name, agreement(IMAGE_FEATURES, *pair, allowed)) for name, *pair in pairs]


def compare_samples(
    bundle: Bundle, expected: dict[str, tuple[np.ndarray, np.ndarray]], computed: dict[str, np.ndarray]
) -> list[Agreement]:
    """Sampled tokens of each boundary, the worst over the pictures.

    Args:
        expected: boundary → (indices, ``[n, s, C]``); computed: boundary → ``[n, tokens, C]``.

    Raises:
        BundleError: no boundary is in both, or one has fewer tokens than were sampled.
    """
    allowed, boundaries = tolerance(bundle), []
    if not expected.keys() & computed.keys():
        raise BundleError(
            f"the golden file of '{bundle.path}' has no block that could be compared", todo="export the bundle again"
        )
    for name, (indices, tokens) in expected.items():
        if name in computed:
            if indices.max() >= computed[name].shape[1]:
                raise BundleError(
                    f"the golden file of '{bundle.path}' has a token that {name} does not have",
                    given=int(indices.max()),
                    allowed=f"0 … {computed[name].shape[1] - 1}",
                    todo="copy the bundle again, or export it again",
                )
            pairs = zip(tokens, computed[name][:, indices], strict=True)
            boundaries.append(worst_of([agreement(name, *pair, allowed) for pair in pairs]))
    return boundaries


def tolerance(bundle: Bundle) -> Tolerance:
    """What the export was held to; of a calibrated bundle, what ``--max-drop`` allows.

    Raises:
        BundleError: the manifest does not say.
    """
    try:
        return Tolerance(**bundle.manifest.accuracy["tolerance"])
    except (KeyError, TypeError):
        raise BundleError(
            f"'{bundle.path}' does not say how far its graph may be from PyTorch",
            given=f"accuracy.tolerance of laco.json: {bundle.manifest.accuracy.get('tolerance')}",
            todo="export it again",
        ) from None


def pixel_values(bundle: Bundle, pictures: np.ndarray) -> np.ndarray:
    """uint8 ``[n, H, W, 3]`` to float32 ``[n, 3, H, W]``."""
    return np.stack([bundle.manifest.image_preprocessing.normalize(picture) for picture in pictures])
