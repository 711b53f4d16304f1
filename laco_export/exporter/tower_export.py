"""The vision tower at one depth: traced, rewritten, written, compared with PyTorch, compiled.

The towers of several depths are exported one after another over one weight file, and one of them is in memory at a
time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..bundle import IMAGE_FEATURES
from ..console import Steps
from ..golden import write_golden
from ..quiet import quiet
from . import vision_graph
from .compile_gate import CompiledGraphs, compile_if_possible
from .depth_names import DepthNames
from .external_data import WeightFile
from .freed_memory import give_back_memory
from .golden_pictures import PreparedPictures
from .loaded_checkpoint import LoadedCheckpoint
from .options import ExportOptions
from .proof import Reference
from .pytorch_answers import AskedModel
from .remarks import remarks_on_tower
from .rewrite_proof import RewriteProof, prove_and_measure
from .tower import VisionTower
from .verdict import Verdict, bisect_tower, confirm_shipped, judge_tower
from .witnesses import IndependentCheck, check_visual_tokens
from .written_tower import write_tower


@dataclass(frozen=True)
class TowerExport:
    """A tower that was written and compared.

    Attributes:
        names: of its files and steps.
        asked: the checkpoint at this depth, and all that its golden questions show encoded.
        features: the golden pictures' as PyTorch gives them, float32 ``[1, tokens, D]`` each.
        checks: the witnesses of its visual tokens.
        remarks: notes on the golden pictures' features.
    """

    names: DepthNames
    asked: AskedModel
    features: Sequence[np.ndarray]
    checks: tuple[IndependentCheck, ...]
    rewritten: RewriteProof
    verdict: Verdict
    compiled: CompiledGraphs
    remarks: tuple[str, ...]

    @property
    def loaded(self) -> LoadedCheckpoint:
        """The checkpoint, at this depth."""
        return self.asked.loaded


def export_tower(
    options: ExportOptions,
    loaded: LoadedCheckpoint,
    names: DepthNames,
    pictures: PreparedPictures,
    weights: WeightFile,
    output: Path,
    steps: Steps,
) -> TowerExport:
    """Write the tower of ``loaded``, whose weights are in memory, at its depth; they are no more when it returns.

    Args:
        weights: what the graphs' constants are appended to, in the bundle's folder.
        output: the bundle's final name.

    Raises:
        CheckpointError, ExportError: see :func:`~.pipeline.export_bundle`.
    """
    step, folder = lambda text: steps.step(names.step(text)), weights.path.parent
    with step("run the pictures in PyTorch"), quiet():
        reference = Reference.of(VisionTower(loaded.model).eval(), pictures.pixel_values)
    with step("compare with independent computations"), quiet():
        checks = check_visual_tokens(loaded.model, reference)
        features = [tensors[IMAGE_FEATURES] for tensors in reference.expected]
        asked = AskedModel.of(loaded, pictures, features)
        if options.llm:
            asked.encode_ahead()
    with step("trace and rewrite the vision tower"):
        traced = _trace(reference, names, options)
    ranges = "" if options.precision == "fp32" else ", measure ranges"
    with step(f"compare the rewritten graph with PyTorch{ranges}"), quiet():
        rewritten = prove_and_measure(reference, traced, options.precision)
        if not options.bisect:  # which reports on all runs together
            rewritten.proof.require()
        give_back_memory()
    with step("write and check the graph"):
        written = write_tower(traced, rewritten.half_format, rewritten.kept_fp32, weights, options)
        del traced
        loaded.let_go_of_tower()
        give_back_memory()
    with step("compare with PyTorch"), quiet():
        trace_again = partial(_trace_again, loaded, reference, names, options)
        verdict = judge_tower(reference, trace_again, rewritten, written, options)
        give_back_memory()
        if options.bisect:
            verdict = bisect_tower(reference, rewritten, verdict, names.beside(output))
        rewritten.proof.require()
        verdict.proof.require()
        verdict = confirm_shipped(reference, verdict)
        write_golden(folder, pictures.names, pictures.pixels, reference.expected, name=names.golden)
    del reference
    give_back_memory()
    compiled = compile_if_possible(folder, verdict.written.vision.graphs, options, steps, names)
    remarks = tuple(remarks_on_tower(pictures, features))
    return TowerExport(names, asked, features, tuple(checks), rewritten, verdict, compiled, remarks)


def _trace(reference: Reference, names: DepthNames, options: ExportOptions) -> vision_graph.TracedGraph:
    return vision_graph.trace_and_rewrite(
        reference.tower, reference.pixel_shape, opset=options.opset, name=names.vision
    )


def _trace_again(
    loaded: LoadedCheckpoint, reference: Reference, names: DepthNames, options: ExportOptions
) -> vision_graph.TracedGraph:
    """The same graph of a tower whose weights are not in memory."""
    loaded.take_tower()
    traced = _trace(reference, names, options)
    loaded.let_go_of_tower()  # the graph holds what it needs of them
    return traced
