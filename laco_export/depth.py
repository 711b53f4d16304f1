"""Where in the encoder the tokens are merged.

A depth is a fraction of the encoder's blocks (``1/2``, ``0.25``, ``1``) or a block index (``block:7``). It resolves to
k, the number of blocks that run on the full token grid: ``k = floor(L·d + 1/2)``, at least 1. Python's ``round`` would
send the ties of a 27-block encoder (1/2, 1/6) to different sides; this formula sends both up, to 14 and 5.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction

from .errors import DepthError

ALLOWED = "a fraction in (0, 1] such as 1/12, 1/6, 1/4, 1/2, 1 or 0.25, or a block index such as block:7"


@dataclass(frozen=True)
class Depth:
    """A requested depth: exactly one of ``fraction`` and ``block`` is set."""

    fraction: Fraction | None = None
    block: int | None = None

    @classmethod
    def parse(cls, text: str | Depth) -> Depth:
        """Read ``text`` as a depth.

        Raises:
            DepthError: it is neither a fraction in (0, 1] nor ``block:K`` with K at least 1.
        """
        if isinstance(text, Depth):
            return text
        text = str(text).strip()
        if match := re.fullmatch(r"block:(\d+)", text):
            block = int(match[1])
            if block < 1:
                raise DepthError("a merge stands after block 1 at the earliest", given=text, allowed=ALLOWED)
            return cls(block=block)
        try:
            fraction = Fraction(text)
        except (ValueError, ZeroDivisionError) as error:
            reason = "divides by zero" if isinstance(error, ZeroDivisionError) else "is not a depth"
            raise DepthError(f"'{text}' {reason}", allowed=ALLOWED) from None
        if not 0 < fraction <= 1:
            raise DepthError(f"depth {text} lies outside (0, 1]", allowed=ALLOWED)
        return cls(fraction=fraction)

    def resolve(self, num_blocks: int) -> int:
        """The number of blocks before the merge, in 1 … ``num_blocks``.

        Raises:
            DepthError: a block index beyond the encoder's last block.
        """
        if self.block is None:
            return max(1, math.floor(num_blocks * self.fraction + Fraction(1, 2)))
        if self.block > num_blocks:
            raise DepthError(
                f"block {self.block} lies beyond the encoder's last block",
                given=str(self),
                allowed=f"block:1 … block:{num_blocks}",
            )
        return self.block

    def __str__(self) -> str:
        return f"block:{self.block}" if self.fraction is None else str(self.fraction)

    @property
    def slug(self) -> str:
        """The depth as part of a file name: ``1_2``, ``block7``."""
        return str(self).replace("/", "_").replace(":", "")
