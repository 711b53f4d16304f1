"""What is compared at each boundary of the encoder: its hidden states, and what each block adds to them.

A block returns ``x + branches(x)``. The stream x is large beside what one block adds, so a fault inside a branch may
move the cosine of the sum by no more than rounding does. So the difference ``output − input`` of every block is
compared too, and what each merge's MLP adds to its residual::

    vision_model.encoder.encoder.layers.3                     the stream after block 3
    vision_model.encoder.encoder.layers.3 minus its input     what block 3 adds
    vision_model.compressors.block_12 minus the residual      the Patch Merge Layer's branch alone

The stream's own rounding reaches the difference undiminished: both ends were rounded relative to the stream. A branch
is therefore held to ``error + roundings·u·‖stream‖/‖branch‖``, u being the precision's unit roundoff.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..agreement import Agreement, Tolerance, agreement
from ..bundle import IMAGE_FEATURES
from .tower import VisionTower

Tensors = Mapping[str, np.ndarray]
_ITS_INPUT, _THE_RESIDUAL = " minus its input", " minus the residual"


@dataclass(frozen=True)
class Strictness:
    """How closely a run must follow PyTorch.

    Attributes:
        tensor: for each boundary and the output.
        branch: relative error allowed to what a block adds, beside the stream's rounding.
        stream_rounding: a block's rounding of the stream, as a share of the stream's norm.
    """

    tensor: Tolerance
    branch: float
    stream_rounding: float


STRICTNESS = {
    "blockwise": Strictness(Tolerance.of_relative_error(1e-4), branch=1e-4, stream_rounding=64 * 2.0**-24),
    "fp32": Strictness(Tolerance.of_relative_error(1e-3), branch=1e-3, stream_rounding=64 * 2.0**-24),
    "fp16": Strictness(Tolerance(0.999, 1e-2, 0.1), branch=0.1, stream_rounding=4 * 2.0**-11),
    "bf16": Strictness(Tolerance(0.999, 1e-2, 0.1), branch=0.2, stream_rounding=4 * 2.0**-8),
}
"""By run; docs/proof.md gives the reasons and what was measured."""


@dataclass(frozen=True)
class Branch:
    """A difference of two boundaries: ``after − before``, on the tokens that both have."""

    name: str
    after: str
    before: str

    def of(self, tensors: Tensors) -> np.ndarray:
        """``[B, tokens, C]``; ``before`` may come as a grid, and lacks the prefix tokens then."""
        after, before = tensors[self.after], tensors[self.before]
        before = before.reshape(len(after), -1, after.shape[-1])  # [B, h, w, C] -> [B, h·w, C]
        return after[:, -before.shape[1] :] - before


def branches_of(tower: VisionTower) -> list[Branch]:
    """The blocks' and the merges', in the order in which the encoder computes them."""
    blocks = f"vision_model.encoder.{tower.vision_model.spec.blocks}."
    branches, stream = [], None
    for name in tower.boundary_names:
        if name.endswith(".residual"):
            continue
        if name.startswith(blocks) and stream is not None:
            branches.append(Branch(name + _ITS_INPUT, name, stream))
        elif f"{name}.residual" in tower.boundary_names:
            branches.append(Branch(name + _THE_RESIDUAL, name, f"{name}.residual"))
        stream = name
    return branches


def boundary_of(name: str) -> str:
    """The boundary at which a compared tensor ends: a branch's own block."""
    return name.removesuffix(_ITS_INPUT).removesuffix(_THE_RESIDUAL)


class BoundaryComparison:
    """Compares a run with PyTorch at every boundary, in the order of the encoder.

    Args:
        expected: PyTorch's tensors by name, one mapping per picture; a branch's tolerance is taken from them.
        strictness: a key of :data:`STRICTNESS`.
        forced: the run goes on with PyTorch's own value at each boundary, which is what a branch's end started from.
    """

    def __init__(self, tower: VisionTower, expected: Sequence[Tensors], strictness: str, *, forced: bool = False):
        self._strictness, self._forced = STRICTNESS[strictness], forced
        after = {branch.after: branch for branch in branches_of(tower)}
        self._order: list[str | Branch] = []
        for name in [*tower.boundary_names, IMAGE_FEATURES]:
            self._order += [name, *([after[name]] if name in after else [])]
        self._tolerances = {branch.name: self._branch_tolerance(branch, expected) for branch in after.values()}

    def _branch_tolerance(self, branch: Branch, expected: Sequence[Tensors]) -> Tolerance:
        shares = [
            float(np.linalg.norm(tensors[branch.after]) / max(np.linalg.norm(branch.of(tensors)), 1e-30))
            for tensors in expected
        ]
        # Beyond 1 the branch is below the stream's rounding: any value would do, and it is not compared.
        error = self._strictness.branch + self._strictness.stream_rounding * max(shares)
        return Tolerance.of_relative_error(min(error, 2.0))

    def __call__(self, expected: Tensors, actual: Tensors) -> OrderedDict[str, Agreement]:
        """What both have, by name."""
        agreements: OrderedDict[str, Agreement] = OrderedDict()
        for entry in self._order:
            if isinstance(entry, str) and entry in actual:
                agreements[entry] = agreement(entry, expected[entry], actual[entry], self._strictness.tensor)
            elif isinstance(entry, Branch) and entry.after in actual and entry.before in actual:
                started = {**actual, entry.before: expected[entry.before]} if self._forced else actual
                pair = entry.of(expected), entry.of(started)
                agreements[entry.name] = agreement(entry.name, *pair, self._tolerances[entry.name])
        return agreements
