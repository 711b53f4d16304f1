"""What a depth's files and steps are called: of a bundle of one depth plainly, of several by the depth."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..golden import GOLDEN_NAME
from ..golden_answers import GOLDEN_ANSWERS_NAME
from ..merge_path import DepthPath
from .vision_graph import VISION


@dataclass(frozen=True)
class DepthNames:
    """The names of one depth.

    Attributes:
        depth: as the checkpoint carries it, where the bundle has several; else None.
    """

    depth: str | None = None

    @property
    def vision(self) -> str:
        """What the graphs' files begin with: ``vision``, ``vision_at1_2``."""
        return f"{VISION}{self._behind('_')}"

    @property
    def golden(self) -> str:
        """``golden.npz``, ``golden_at1_2.npz``."""
        return self._file(GOLDEN_NAME)

    @property
    def golden_answers(self) -> str:
        """``golden_answers.npz``, ``golden_answers_at1_2.npz``."""
        return self._file(GOLDEN_ANSWERS_NAME)

    def step(self, text: str) -> str:
        """A step of this depth, as it is shown: ``compare with PyTorch``, ``compare with PyTorch @1/2``."""
        return text if self.depth is None else f"{text} @{self.depth}"

    def beside(self, output: Path) -> Path:
        """The place beside which reports on this depth are written: the bundle's, or ``<bundle>.at1_2``."""
        return output.with_name(f"{output.name}{self._behind('.')}")

    def _file(self, name: str) -> str:
        path = Path(name)
        return f"{path.stem}{self._behind('_')}{path.suffix}"

    def _behind(self, joint: str) -> str:
        return "" if self.depth is None else f"{joint}at{DepthPath.parse(self.depth).slug}"
