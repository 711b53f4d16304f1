"""A calibration, in order: the steps of docs/calibration.md.

    report = calibrate(CalibrationOptions(bundle=Path("laco-at1_2-fp32"), images=[Path("photos")]))

verify the bundle → find the pictures, hold some back to judge on → smoothing and observation (:mod:`.observation`) →
ranges (:mod:`.range_choice`) → sensitivity of each block (:mod:`.sensitivity`) → selection and quantization, judged as
a file, on the golden pictures too (:mod:`.selection`) → let TensorRT try it (:mod:`.tensorrt_gate`) → manifest → ask it
the golden questions → rename.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from laco_export import __version__
from laco_export.atomic import new_directory
from laco_export.bundle import Bundle, refuse_to_replace_non_bundle, write_manifest
from laco_export.charts import save_chart
from laco_export.console import Steps
from laco_export.disk_space import require_space

from . import verification
from .context import CalibrationContext
from .observation import Observation, SmoothedGraph, observe_pictures, smooth
from .options import CalibrationOptions, source_target_of, with_target
from .plot import draw_blocks
from .quantizing.quantized_graphs import carry
from .range_choice import choose_ranges
from .record import calibration_record
from .refusals import refuse_output_name
from .report import CalibrationReport
from .selection import Selection, select
from .sensitivity import Sensitivity, measure_sensitivity
from .source.held_out import Division, divide
from .source.picture_set import PictureSet, find_pictures, find_questions
from .source.source_bundle import exported, open_source_bundle
from .statistics.records import STATISTICS_NAME
from .statistics.thresholds import minimum_of
from .tensorrt_gate import compile_quantized_graphs

_PLOT_NAME = "calibration.png"


def calibrate(options: CalibrationOptions) -> CalibrationReport:
    """Make an INT8 bundle.

    Raises:
        CalibrationError, UsageError, BundleError, OutputExistsError: what was given cannot be used.
        TrialError: the finished bundle does not answer as PyTorch does, beyond what its tower's error explains.
        NotWorthItError: no quantised graph is faster and accurate enough. Nothing is left under the output's name; the
            statistics stay beside it, for ``--resume`` with another budget.
    """
    source_target = source_target_of(options)
    options, notes = with_target(options, source_target)
    output, steps = options.output_folder, Steps()
    refuse_output_name(options)
    with ExitStack() as stack:
        source, at = options.bundle, options.at
        if options.model is not None:
            source = stack.enter_context(exported(options.model, at=options.at, target=source_target, beside=output))
            at = None
        asks_questions = options.questions is not None
        bundle = open_source_bundle(source, options.target, asks_questions=asks_questions, at=at)
        with new_directory(output, force=options.force, refuse=refuse_to_replace_non_bundle) as folder:
            _require_space(options, bundle, folder)
            picture_set, division = _find_pictures(options, bundle, steps)
            context = CalibrationContext(options, bundle, output, folder, picture_set, division, steps, notes)
            report = _calibrate(context)
    options.progress_file.unlink(missing_ok=True)
    return report


def _calibrate(context: CalibrationContext) -> CalibrationReport:
    smoothed = smooth(context)
    observation = choose_ranges(context, smoothed, observe_pictures(context, smoothed))
    sensitivity = measure_sensitivity(context, smoothed, observation)
    selection = select(context, smoothed, observation, sensitivity)
    chosen = context.placement(selection.choice.blocks, observation.ranges).node_names(smoothed.graph)
    compiled = compile_quantized_graphs(context, selection.vision, chosen)
    _write_bundle(context, smoothed, observation, sensitivity, selection)
    record = calibration_record(context, smoothed, observation, sensitivity, selection)
    asked = context.bundle.manifest.golden_answers is not None
    if context.bundle.manifest.decoder is not None and not asked:
        context.notes.append("its golden questions could not be asked: the FP32 bundle is of a version without them")
    _write_manifest(context, selection, record, compiled)
    trial = _try_bundle(context) if asked else None
    return CalibrationReport(
        context.output, record, context.picture_set.broken, context.notes, context.steps.seconds, trial
    )


def _try_bundle(context: CalibrationContext) -> dict:
    """Ask the finished bundle what PyTorch was asked at export."""
    from laco_engines.trial import try_bundle

    with context.steps.step("ask the finished bundle"):
        return try_bundle(context.folder)


def _require_space(options: CalibrationOptions, bundle: Bundle, folder: Path) -> None:
    weights = bundle.manifest.files[bundle.manifest.vision.weights]["bytes"]
    share = 0.9 if options.form.base == "fp16" else 0.4  # int8 a quarter, the FP16 fallback a half
    share += 0.25 if options.twin_format is not None else 0.0
    require_space(folder, weights * share, place=options.output_folder.absolute().parent)


def _find_pictures(options: CalibrationOptions, bundle: Bundle, steps: Steps) -> tuple[PictureSet, Division]:
    with steps.step("find the pictures"):
        picture_set = find_pictures(options.images)
        if options.questions is not None:
            picture_set.questions = find_questions(options.questions)
    looked_at = len(picture_set.pictures) if options.limit is None else min(options.limit, len(picture_set.pictures))
    with steps.step("tell the pictures apart", looked_at) as advance:
        minimum = minimum_of(options.method)
        return picture_set, divide(picture_set, bundle, limit=options.limit, minimum=minimum, advance=advance)


def _write_bundle(
    context: CalibrationContext,
    smoothed: SmoothedGraph,
    observation: Observation,
    sensitivity: Sensitivity,
    selection: Selection,
) -> None:
    """Everything but the graphs and the manifest: the source's other files, the statistics and the plot."""
    options = context.options
    carry(context.bundle, context.folder)
    if not context.weights_only:
        observation.statistics.save(context.folder / STATISTICS_NAME)
    chart = draw_blocks(
        sensitivity.errors,
        sensitivity.times,
        selection.choice.blocks,
        max_drop=options.max_drop,
        merges_at=[place for place, block in enumerate(smoothed.blocks) if block.is_merge],
        title=f"{context.output.name}: {options.target}, {options.number_format}, {options.method}",
    )
    save_chart(chart, context.folder / _PLOT_NAME)


def _write_manifest(context: CalibrationContext, selection: Selection, record: dict, compiled: list[dict]) -> None:
    source = context.bundle.manifest
    # What was measured of the FP32 graph's own blocks, or of its compilation, is not this graph's.
    accuracy = {name: measured for name, measured in source.accuracy.items() if name not in ("branches", "also")}
    notes = [note for note in source.notes if not note.startswith("the graph was not compiled")]
    tolerance = verification.tolerance_of(context.options.max_drop)
    manifest = replace(
        source,
        tool_version=__version__,
        vision=replace(selection.vision, calibration=record),
        accuracy={**accuracy, **verification.with_tolerance(selection.golden.proof, tolerance)},
        build={"seconds": context.steps.seconds, "compiled": compiled},
        notes=[*notes, *context.notes],
        files={},
    )
    context.bundle.require_unchanged(source.vision.weights, *(graph.file for graph in source.vision.graphs))
    write_manifest(context.folder, manifest)
