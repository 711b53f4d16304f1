"""The verdict on the written tower: judged, written again where half precision drifted, confirmed as shipped."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from ..console import say
from . import islands
from .options import ExportOptions
from .proof import Proof, Reference, judge, prove_shipped
from .rewrite_proof import RewriteProof
from .vision_graph import TracedGraph
from .written_tower import WrittenTower


@dataclass(frozen=True)
class Verdict:
    """What the comparison with PyTorch came to.

    Attributes:
        proof: it may have failed (:meth:`~.proof.Proof.require`).
        written: the files that it is about.
        notes: for the manifest, in the order in which things happened.
    """

    proof: Proof
    written: WrittenTower
    notes: tuple[str, ...] = ()


def judge_tower(
    reference: Reference,
    trace_again: Callable[[], TracedGraph],
    rewritten: RewriteProof,
    written: WrittenTower,
    options: ExportOptions,
) -> Verdict:
    """The deciding run; where half precision drifts, again with more of the graph in FP32.

    Args:
        trace_again: makes the FP32 graph that ``written`` was made from once more. It is seldom needed, and would take
            the memory of the tower's weights until the verdict.
    """
    precision, half_format = options.precision, rewritten.half_format
    proof, kept_fp32 = judge(reference, written.shipped, written.marked, precision=precision), rewritten.kept_fp32
    notes: list[str] = []
    traced = None
    for retry in range(1, islands.MAX_RETRIES + 1):
        if half_format is None or proof.failing is None or rewritten.proof.failing is not None:
            break
        drifted, traced = proof.failing[1][0], traced or trace_again()
        kept_fp32 = islands.widen(traced.graph, reference.tower.boundary_names, kept_fp32, drifted, retry)
        written = written.written_again(traced, half_format, kept_fp32, options)
        notes.append(
            f"the {precision.upper()} graph drifted at {drifted.name} ({drifted.numbers()}): it was converted again "
            f"with the blocks around it in FP32 (retry {retry} of {islands.MAX_RETRIES})"
        )
        proof = judge(reference, written.shipped, written.marked, precision=precision)
    return Verdict(proof, written, tuple(notes))


def bisect_tower(reference: Reference, rewritten: RewriteProof, verdict: Verdict, beside: Path) -> Verdict:
    """Write the errors by block beside a bundle's place, tell the user, and note it.

    Args:
        beside: what the reports are called, as :func:`~.bisection.reports_beside` takes it.
    """
    from .bisection import FUSION_NOTE, bisect

    bisection = bisect(reference, rewritten.proof, verdict.proof, verdict.written.shipped, verdict.written.marked)
    report, plot = bisection.write(beside)
    said = [f"bisect: {bisection.sentence}", f"  report: {report}", f"  plot:   {plot}", f"  note:   {FUSION_NOTE}"]
    say("\n".join(said))
    notes = (f"bisect: {bisection.sentence} (see {report.name}, {plot.name})", f"bisect: {FUSION_NOTE}")
    return replace(verdict, notes=(*verdict.notes, *notes))


def confirm_shipped(reference: Reference, verdict: Verdict) -> Verdict:
    """Let ONNX Runtime run the files as shipped, and remove the marked graph, which no bundle has.

    Raises:
        ExportError: a file is out of tolerance.
    """
    proof = prove_shipped(reference, verdict.proof, verdict.written.files)
    verdict.written.marked.unlink()
    proof.require()
    return replace(verdict, proof=proof, notes=(*verdict.notes, *proof.notes))
