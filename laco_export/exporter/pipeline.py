"""The export, in order: load and audit, trace, rewrite, precision, gates, proof, decoder, manifest, trial, rename.

    report = export_bundle(ExportOptions(Path("checkpoint"), at="1/2", precision="fp16"))

Each step is a function of what earlier steps gave, which is frozen: :func:`_write_bundle` shows what needs what.
Everything is written into a temporary sibling of the output, which takes its final name when all gates have passed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from ..atomic import new_directory
from ..bundle import IMAGE_FEATURES, refuse_to_replace_non_bundle, write_manifest
from ..console import Steps
from ..disk_space import require_space
from ..golden import write_golden
from ..quiet import quiet
from . import vision_graph
from .bundle_manifest import carry_files, describe_bundle
from .compile_gate import compile_if_possible
from .decoder import check_texts
from .decoder_export import write_and_verify
from .freed_memory import give_back_memory
from .golden_pictures import PreparedPictures, golden_pictures, prepare_pictures
from .loaded_checkpoint import LoadedCheckpoint, bytes_of_bundle, load_checkpoint
from .options import ExportOptions
from .proof import Reference
from .pytorch_answers import AskedModel
from .remarks import remarks_on_tower
from .report import ExportReport
from .rewrite_proof import prove_and_measure
from .tower import VisionTower
from .verdict import bisect_tower, confirm_shipped, judge_tower
from .witnesses import IndependentCheck, check_placed_tokens, check_prepared_pictures, check_visual_tokens
from .written_tower import write_tower

Trial = Callable[[Path], dict]
"""Opens the finished folder as its user will, asks it its golden questions, and returns what came of that, for the
report; raises where it does not answer as PyTorch does. What opens bundles stands above the exporter, so that whoever
calls it hands the trial in."""


def export_bundle(options: ExportOptions, trial: Trial | None = None) -> ExportReport:
    """Export a checkpoint as a bundle.

    Args:
        trial: what the finished bundle with a language model must pass before it gets its name; the command's is
            :func:`laco_engines.trial.try_bundle`.

    Raises:
        CheckpointError, DepthError, OutputExistsError, ImageError, UsageError: what was given cannot be used.
        DiskSpaceError: the output's disk is too full for the bundle.
        ExportError: a rewrite, a gate or the comparison failed; nothing is left under the output's name.
        LacoError: what the trial raises; nothing is left either.
    """
    steps = Steps()
    depth, output = _depth_and_output(options)
    with new_directory(output, force=options.force, refuse=refuse_to_replace_non_bundle) as folder:
        report = _write_bundle(options, depth, output, folder, steps)
        if trial is not None and report.manifest.golden_answers is not None:
            give_back_memory()  # the model and what was computed of it: the bundle is loaded now
            with steps.step("ask the finished bundle"):
                report = replace(report, trial=trial(folder))
    if options.force and not options.bisect:
        from .bisection import reports_beside

        for stale in reports_beside(output):  # of the bundle that was replaced
            stale.unlink(missing_ok=True)
    return report


def _depth_and_output(options: ExportOptions) -> tuple[str | None, Path]:
    """The carried depth that ``--at`` names and the output's name, by the configuration alone; refuses what it can."""
    with quiet():
        from ..exportable import require_exportable
        from ..models import checkpoint

        config = checkpoint.read_config(options.model)
    if options.llm:
        require_exportable(config.text_config)
    compression = config.compression_config
    if options.at is not None:
        depth, _ = compression.find(options.at)
    else:
        depth = compression.depths[0] if compression.method else None
    return depth, options.output_for(depth)


def _write_bundle(options: ExportOptions, depth: str | None, output: Path, folder: Path, steps: Steps) -> ExportReport:
    """The steps in order.

    Args:
        output: the bundle's final name; folder: where it is built.
    """
    step = steps.step
    with step("load and audit the checkpoint"):
        loaded = load_checkpoint(options.model, depth)
        needed = bytes_of_bundle(loaded.model, precision=options.precision, llm=options.llm)
        require_space(folder, needed, place=output.absolute().parent)  # now, and not after minutes
        if options.llm:
            check_texts(loaded.checkpoint.processor, options.llm_texts)
    with step("read the pictures" if options.images else "draw the golden pictures"), quiet():
        pictures, checks = _pictures_of(options, loaded)
    with step("run the pictures in PyTorch"), quiet():
        reference = Reference.of(VisionTower(loaded.model).eval(), pictures.pixel_values)
    with step("compare with independent computations"), quiet():
        checks += check_visual_tokens(loaded.model, reference)
        features = [tensors[IMAGE_FEATURES] for tensors in reference.expected]
        asked = AskedModel.of(loaded, pictures, features)
        if options.llm:
            asked.encode_ahead()
    with step("trace and rewrite the vision tower"):
        traced = _trace(reference, options)
    ranges = "" if options.precision == "fp32" else ", measure ranges"
    with step(f"compare the rewritten graph with PyTorch{ranges}"), quiet():
        rewritten = prove_and_measure(reference, traced, options.precision)
        if not options.bisect:  # which reports on all runs together
            rewritten.proof.require()
        give_back_memory()
    with step("write and check the graph"):
        written = write_tower(traced, rewritten.half_format, rewritten.kept_fp32, folder, options)
        del traced
        loaded.let_go_of_tower()
        give_back_memory()
    with step("compare with PyTorch"), quiet():
        verdict = judge_tower(reference, partial(_trace_again, loaded, reference, options), rewritten, written, options)
        give_back_memory()
        if options.bisect:
            verdict = bisect_tower(reference, rewritten, verdict, output)
        rewritten.proof.require()
        verdict.proof.require()
        verdict = confirm_shipped(reference, verdict)
        write_golden(folder, pictures.names, pictures.pixels, reference.expected)
    del reference
    give_back_memory()
    compiled = compile_if_possible(folder, verdict.written.vision.graphs, options, steps)
    decoder = None
    if options.llm:
        with step("load the language model"):
            loaded.take_language_model()
        with step("compare with independent computations"), quiet():
            checks += check_placed_tokens(loaded.model, loaded.checkpoint.processor)
        decoder = write_and_verify(folder, options, asked, features, steps)
    remarks = remarks_on_tower(pictures, features)
    with step("write the manifest"):
        carry_files(loaded.model, options.model, folder)
        facts = (options, loaded, pictures, checks, rewritten, verdict, compiled, decoder, remarks, steps.seconds)
        manifest = write_manifest(folder, describe_bundle(*facts))
    return ExportReport(output, manifest, steps.seconds, compiled.records)


def _trace(reference: Reference, options: ExportOptions) -> vision_graph.TracedGraph:
    return vision_graph.trace_and_rewrite(reference.tower, reference.pixel_shape, opset=options.opset)


def _trace_again(loaded: LoadedCheckpoint, reference: Reference, options: ExportOptions) -> vision_graph.TracedGraph:
    """The same graph of a tower whose weights are not in memory."""
    loaded.take_tower()
    traced = _trace(reference, options)
    loaded.let_go_of_tower()  # the graph holds what it needs of them
    return traced


def _pictures_of(options: ExportOptions, loaded: LoadedCheckpoint) -> tuple[PreparedPictures, list[IndependentCheck]]:
    preprocessing = loaded.checkpoint.processor.image_processor.preprocessing
    spec, config = loaded.model.vision_model.spec, loaded.model.config
    images = golden_pictures(options.images, 2 * max(preprocessing.height, preprocessing.width))
    prepared = prepare_pictures(images, preprocessing, spec.image_size(config.vision_config))
    return prepared, check_prepared_pictures(options.model, images, prepared, config.tiling_config)
