"""``--bisect``: where does the exported graph leave PyTorch's path?

Four runs over the same pictures, each compared with PyTorch at every boundary::

    the rewritten graph in FP32, block by block     a wrong rewrite, swapped or lost weights
    half arithmetic, block by block                 a block that half cannot compute
    half arithmetic                                 rounding that adds up from the pixels on
    ONNX Runtime, boundaries marked                 a runtime that computes something else

Block by block means that each block starts from PyTorch's own input: its error is its own. The report names the first
block that is out of tolerance by its PyTorch module name. Marking boundaries as outputs keeps a runtime from fusing
across them, so the marked graph may run where the shipped one fails: the report says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from ..agreement import Agreement, worst
from ..atomic import write_json
from ..charts import save_chart
from .boundaries import boundary_of
from .error_plot import draw_errors
from .external_data import graph_from_file
from .interpreter import GraphInterpreter
from .proof import Proof, Reference
from .runners import ARITHMETIC, GraphRunner, onnxruntime_runner

MARKED = "ONNX Runtime, boundaries marked"
FUSION_NOTE = (
    "the block outputs were marked as outputs of a second graph: a runtime does not fuse across them, so its numbers "
    "can differ from the shipped graph's"
)


@dataclass(frozen=True)
class Bisection:
    """The errors by run and boundary.

    Attributes:
        runs: run → its tensors in encoder order, the most telling run first.
        judge: the run that the export is held to.
    """

    runs: dict[str, list[Agreement]]
    precision: str
    judge: str

    @property
    def first(self) -> tuple[str, Agreement] | None:
        """The first run that leaves its tolerance and the first of its tensors that does; None if none does."""
        for run, agreements in self.runs.items():
            for tensor in agreements:
                if not tensor.within():
                    return run, tensor
        return None

    @property
    def sentence(self) -> str:
        """What was found, for people."""
        if self.first is None:
            lowest = worst(self.runs[self.judge])
            return f"no block is out of tolerance; the furthest, in {self.judge}, is {lowest.name} ({lowest.numbers()})"
        run, tensor = self.first
        return (
            f"the first block that drifts is {boundary_of(tensor.name)}, in {run}: {tensor.name} has {tensor.numbers()}"
        )

    def to_json(self) -> dict:
        return {
            "first_drifting": None if self.first is None else boundary_of(self.first[1].name),
            "finding": self.sentence,
            "note": FUSION_NOTE,
            "precision": self.precision,
            "runs": {
                run: [
                    {**tensor.to_dict(), "relative_error": _finite(tensor.relative_error), "within": tensor.within()}
                    for tensor in agreements
                ]
                for run, agreements in self.runs.items()
            },
        }

    def write(self, beside: Path) -> tuple[Path, Path]:
        """Write the two files of :func:`reports_beside`, each in one step."""
        report, plot = reports_beside(beside)
        report.parent.mkdir(parents=True, exist_ok=True)
        save_chart(draw_errors(self.runs, title=self.sentence), plot)
        write_json(report, self.to_json())
        return report, plot


def reports_beside(bundle: Path) -> tuple[Path, Path]:
    """``<name>.bisect.json`` and ``<name>.bisect.png`` beside a bundle's place: a failed export leaves no bundle."""
    bundle = Path(bundle).absolute()
    return tuple(bundle.parent / f"{bundle.name}.bisect.{suffix}" for suffix in ("json", "png"))


def bisect(reference: Reference, rewritten: Proof, judged: Proof, shipped: Path, marked: Path) -> Bisection:
    """Run what the proof has not run and put the runs together.

    Args:
        rewritten, judged: the proofs of :func:`~.proof.prove_rewrites` and :func:`~.proof.judge`.
        shipped: the graph file of one picture; marked: the same with its boundaries as outputs.
    """
    precision = judged.precision
    runs = dict(rewritten.agreements)
    if precision != "fp32":
        name = f"{ARITHMETIC[precision]}, block by block"
        runner = GraphRunner(
            name,
            lambda: GraphInterpreter(graph_from_file(shipped)),
            reference.tower.boundary_names,
            reference.pixel_shape,
            forced=reference.expected,
        )
        runs[name] = reference.compare(runner, precision)
    runs |= judged.agreements
    if precision == "fp16":  # FP32 was judged by this very run, bfloat16 has no kernels there
        runs[MARKED] = reference.compare(onnxruntime_runner(marked, MARKED), precision)
    return Bisection(runs, precision, judged.judge)


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
