"""How many tokens a picture takes before and after the merge: the one place where this is computed."""

from __future__ import annotations

from .errors import ConfigError


def merged_grid(height: int, width: int, ratio: int) -> tuple[int, int]:
    """The token grid after an r×r merge; odd sides are padded, so each side is rounded up.

    Raises:
        ConfigError: the grid is smaller than one window.
    """
    if min(height, width) < ratio:
        raise ConfigError(
            "the token grid is smaller than the merge window",
            given=f"grid {height} x {width}, compression.ratio {ratio}",
            allowed="a ratio of at most the grid's shorter side",
        )
    return -(-height // ratio), -(-width // ratio)


def tokens_per_image(grid: tuple[int, int], ratio: int) -> int:
    """Visual embeddings of one picture: ⌈H/r⌉·⌈W/r⌉ for a token grid of H×W (``ratio`` 1: no compression)."""
    height, width = merged_grid(*grid, ratio)
    return height * width
