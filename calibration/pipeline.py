"""A calibration, in order.

    report = calibrate(CalibrationOptions(bundle=Path("laco-at1_2-fp32"), images=[Path("photos")], recipe="cpu"))

verify the bundle → find the pictures, hold some back to judge on → smooth and look at the pictures
(:mod:`.observation`) → judge and time each block (:mod:`.sensitivity`) → choose, write, judge the file itself
(:mod:`.selection`) → let TensorRT
try it (:mod:`.tensorrt_gate`) → compare with PyTorch → manifest → rename.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

from laco_export import __version__
from laco_export.atomic import new_directory, refuse_existing
from laco_export.bundle import Bundle, refuse_to_replace_non_bundle, write_manifest
from laco_export.charts import save_chart
from laco_export.console import Steps
from laco_export.disk_space import require_space
from laco_export.errors import UsageError

from . import verification
from .context import Run
from .graph.linear_layers import MERGE
from .observation import Looking
from .options import CalibrationOptions, with_recipe
from .plot import draw_blocks
from .quantizing.quantized_graphs import carry
from .record import calibration_record
from .report import Report
from .selection import Settling
from .sensitivity import Weighing
from .source.held_out import divide
from .source.picture_set import find_pictures, find_questions
from .source.source_bundle import exported, open_source
from .statistics.records import STATISTICS_NAME
from .statistics.thresholds import METHODS
from .tensorrt_gate import compile_graphs

PLOT_NAME = "calibration.png"


def calibrate(options: CalibrationOptions) -> Report:
    """Make an INT8 bundle.

    Raises:
        CalibrationError, UsageError, BundleError, OutputExistsError: what was given cannot be used.
        NotWorthItError: no quantised graph is faster and accurate enough. Nothing is left under the output's name; the
            statistics stay beside it, for ``--resume`` with another budget.
    """
    options, notes = with_recipe(options)
    output, steps = options.output_folder, Steps()
    refuse_existing(output, force=options.force)
    refuse_to_replace_non_bundle(output)
    if options.bundle is not None and output.resolve() == options.bundle.resolve():
        raise UsageError(f"the output '{output}' is the bundle that it starts from", todo="choose another --output")
    with ExitStack() as stack:
        folder = options.bundle if options.model is None else stack.enter_context(exported(options))
        bundle = open_source(folder, options)
        with new_directory(output, force=options.force) as partial:
            _require_space(options, bundle, partial)
            with steps.step("find the pictures"):
                pictures = find_pictures(options.images)
                if options.questions is not None:
                    pictures.questions = find_questions(options.questions)
                minimum = METHODS[options.method].minimum
                division = divide(pictures, bundle, limit=options.limit, minimum=minimum)
            report = _calibrate(Run(options, bundle, output, partial, pictures, division, steps, notes))
    options.progress_file.unlink(missing_ok=True)
    return report


def _require_space(options: CalibrationOptions, bundle: Bundle, folder: Path) -> None:
    weights = bundle.manifest.files[bundle.manifest.vision.weights]["bytes"]
    share = 0.9 if options.recipe_entry.base == "fp16" else 0.4  # int8 a quarter, the FP16 fallback a half
    require_space(folder, weights * share, place=options.output_folder.absolute().parent)


def _calibrate(run: Run) -> Report:
    seen = Looking(run)
    seen.smooth()
    seen.look()
    _note_judges_that_were_seen(run, seen)
    weighed = Weighing(run, seen)
    settled = Settling(run, weighed)
    compiled = compile_graphs(run, settled.vision, weighed.nodes_of(settled.choice.blocks))
    carry(run.bundle, run.folder)
    _write_findings(run, weighed, settled)
    with run.steps.step("compare with PyTorch's golden features"):
        path, ir_version = run.folder / settled.vision.graphs[0].file, settled.vision.ir_version
        proof = verification.golden_proof(run.bundle, path, seen.scales, ir_version, half=run.half)
    record = calibration_record(run, weighed, settled)
    _write_manifest(run, settled, record, proof, compiled)
    return Report(run.output, record, run.pictures.broken, run.notes, run.steps.seconds)


def _note_judges_that_were_seen(run: Run, seen: Looking) -> None:
    if run.number_format.activations is None:
        return  # nothing was taken from the pictures
    both = {picture.sha256 for picture in run.division.judging} & set(seen.statistics.pictures)
    if both:
        why = "the earlier statistics saw them" if run.division.held_out else "too few were given to hold some back"
        run.notes.append(f"judged on pictures that were also calibrated on ({len(both)}): {why}")


def _write_manifest(run: Run, settled: Settling, record: dict, proof: dict, compiled: list[dict]) -> None:
    source = run.bundle.manifest
    # What was found of the FP32 graph's own blocks, or of its compilation, is not this graph's.
    accuracy = {name: value for name, value in source.accuracy.items() if name not in ("branches", "also")}
    notes = [note for note in source.notes if not note.startswith("the graph was not compiled")]
    tolerance = verification.tolerance_of(run.options.max_drop, settled.error)
    manifest = replace(
        source,
        tool_version=__version__,
        vision=replace(settled.vision, calibration=record),
        accuracy={**accuracy, **verification.with_tolerance(proof, tolerance)},
        build={"seconds": run.steps.seconds, "compiled": compiled},
        notes=[*notes, *run.notes],
        files={},
    )
    write_manifest(run.folder, manifest)


def _write_findings(run: Run, weighed: Weighing, settled: Settling) -> None:
    """The statistics and the plot, into the bundle."""
    seen = weighed.seen
    if run.number_format.activations is not None:
        seen.statistics.broken |= run.pictures.broken
        seen.statistics.save(run.folder / STATISTICS_NAME)
    chart = draw_blocks(
        weighed.errors,
        weighed.times,
        settled.choice.blocks,
        max_drop=run.options.max_drop,
        merge_at=next((i for i, block in enumerate(seen.blocks) if block.region == MERGE), None),
        title=f"{run.output.name}: {run.recipe.name}, {run.options.number_format}, {run.options.method}",
    )
    save_chart(chart, run.folder / PLOT_NAME)
