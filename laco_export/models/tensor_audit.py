"""Whether a folder's tensors are those of the model that its ``config.json`` describes, and all of them numbers.

One error names everything that is wrong, so that of a folder with other names it tells those that are there and those
that are not.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from ..errors import CheckpointError

_NAMED = 3  # tensors of each kind, in an error
_TODO = "check that config.json and the weights belong together"


class TensorAudit:
    """Collects what is wrong with the tensors of one folder.

    Args:
        folder: for the error.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self.missing: list[str] = []
        self.unexpected: list[str] = []
        self._reshaped: list[str] = []
        self._not_finite: list[str] = []

    def fits(self, name: str, shape: Sequence[int], expected: Sequence[int]) -> bool:
        """Whether a stored tensor has the shape that the model has for it; noted where it has not."""
        if tuple(shape) == tuple(expected):
            return True
        self._reshaped.append(f"{name} {tuple(shape)} for {tuple(expected)}")
        return False

    def check_finite(self, name: str, tensor: Tensor) -> None:
        """Note a tensor that holds inf or NaN; reads it once."""
        if not is_finite(tensor):
            self._not_finite.append(name)

    def close(self, todo: str = _TODO) -> None:
        """
        Args:
            todo: where names or shapes are other ones.

        Raises:
            CheckpointError: something was noted, or stands in :attr:`missing` or :attr:`unexpected`.
        """
        problems = {
            "missing": sorted(self.missing),
            "unexpected": sorted(self.unexpected),
            "of another shape": sorted(self._reshaped),
        }
        if any(problems.values()):
            raise CheckpointError(
                f"the tensors of '{self._folder}' are not those that its config.json describes",
                given="; ".join(f"{kind}: {_first(names)}" for kind, names in problems.items() if names),
                todo=todo,
            )
        if self._not_finite:
            raise CheckpointError(
                f"the weights of '{self._folder}' are not all finite numbers",
                given=f"inf or NaN in {_first(self._not_finite)}",
                todo="get the folder again; where they overflow in the dtype that was asked for, ask for float32 or "
                "bfloat16",
            )


def refuse_not_finite(folder: Path, tensors: Iterable[tuple[str, Tensor]]) -> None:
    """Read loaded tensors once; those on the meta device are passed over.

    Raises:
        CheckpointError: one holds inf or NaN.
    """
    audit = TensorAudit(folder)
    for name, tensor in tensors:
        if tensor.device.type != "meta":
            audit.check_finite(name, tensor)
    audit.close()


def is_finite(tensor: Tensor) -> bool:
    """Whether a tensor holds neither inf nor NaN: by its extremes, which are one pass without a copy (``isfinite``
    writes a mask, in 10 to 20 times the time)."""
    if not tensor.is_floating_point() or not tensor.numel():
        return True
    return all(bool(extreme.isfinite()) for extreme in torch.aminmax(tensor))


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
