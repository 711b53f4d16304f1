"""The verdict on one part of a bundle."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field


@dataclass(frozen=True)
class PartCheck:
    """A part beside what PyTorch computed at export.

    Attributes:
        part: what was compared, for people: ``the decoder's prefill``.
        passed: within what is allowed.
        detail: the numbers and what is allowed, in a line.
        numbers: the same for ``--json``.
    """

    part: str
    passed: bool
    detail: str
    numbers: dict = field(default_factory=dict)

    def line(self) -> str:
        return f"  {'ok  ' if self.passed else 'FAIL'} {self.part}: {self.detail}"

    def to_dict(self) -> dict:
        return asdict(self)
