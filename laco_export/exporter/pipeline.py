"""The export, in order: load and audit, each depth's tower, decoder, manifest, trial, rename.

    report = export_bundle(ExportOptions(Path("checkpoint"), at="1/2", precision="fp16"))

Each step is a function of what earlier steps gave, which is frozen: :func:`_write_bundle` shows what needs what, and
:func:`~.tower_export.export_tower` what is done at each depth. Everything is written into a temporary sibling of the
output, which takes its final name when all gates have passed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..atomic import new_directory
from ..bundle import refuse_to_replace_non_bundle, write_manifest
from ..console import Steps
from ..disk_space import require_space
from ..quiet import quiet
from .bundle_manifest import carry_files, describe_bundle
from .decoder import check_texts
from .decoder_export import AskedDepth, DecoderExport, ask_at_depth, vocabulary_for, write_and_verify
from .depth_names import DepthNames
from .external_data import WeightFile
from .freed_memory import give_back_memory
from .golden_pictures import PreparedPictures, golden_pictures, prepare_pictures
from .loaded_checkpoint import LoadedCheckpoint, bytes_of_bundle, load_checkpoint
from .options import ExportOptions
from .report import ExportReport
from .tower_export import TowerExport, export_tower
from .vision_graph import WEIGHTS
from .witnesses import IndependentCheck, check_placed_tokens, check_prepared_pictures

if TYPE_CHECKING:
    from .decoder.reduced_vocabulary import ReducedVocabulary

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
    depths, output = _depths_and_output(options)
    with new_directory(output, force=options.force, refuse=refuse_to_replace_non_bundle) as folder:
        report = _write_bundle(options, depths, output, folder, steps)
        if trial is not None and report.manifest.golden_answers is not None:
            give_back_memory()  # the model and what was computed of it: the bundle is loaded now
            with steps.step("ask the finished bundle"):
                report = replace(report, trial=trial(folder))
    if options.force and not options.bisect:
        _remove_reports(output, depths)
    return report


def _remove_reports(output: Path, depths: Sequence[str | None]) -> None:
    """Those of ``--bisect`` on the bundle that was replaced."""
    from .bisection import reports_beside

    for depth in {None, *depths}:
        for stale in reports_beside(DepthNames(depth).beside(output)):
            stale.unlink(missing_ok=True)


def _depths_and_output(options: ExportOptions) -> tuple[Sequence[str | None], Path]:
    """The carried depths that ``--at`` names (None: nothing is merged) and the output's name, by the configuration
    alone; refuses what it can."""
    with quiet():
        from ..exportable import require_exportable
        from ..models import checkpoint

        config = checkpoint.read_config(options.model)
    if options.llm:
        require_exportable(config.text_config)
    depths = config.compression_config.find_all(options.at)
    return depths or (None,), options.output_for(*depths)


def _write_bundle(
    options: ExportOptions, depths: Sequence[str | None], output: Path, folder: Path, steps: Steps
) -> ExportReport:
    """The steps in order.

    Args:
        output: the bundle's final name; folder: where it is built.
    """
    step = steps.step
    with step("load and audit the checkpoint"):
        loaded = load_checkpoint(options.model, depths[0])
        vocabulary = vocabulary_for(loaded, options)
        needed = bytes_of_bundle(
            loaded.model, precision=options.precision, llm=options.llm, more_rows=len(vocabulary or ())
        )
        require_space(folder, needed, place=output.absolute().parent)  # now, and not after minutes
        if options.llm:
            check_texts(loaded.checkpoint.processor, options.llm_texts)
    with step("read the pictures" if options.images else "draw the golden pictures"), quiet():
        pictures, checks = _pictures_of(options, loaded)
    towers: list[TowerExport] = []
    with WeightFile(folder / WEIGHTS) as weights:
        for depth in depths:
            names = DepthNames(depth if len(depths) > 1 else None)
            if towers:
                with step(names.step("load the vision tower")):
                    loaded = loaded.at_depth(depth)
                    loaded.take_tower()
            towers.append(export_tower(options, loaded, names, pictures, weights, output, steps))
    decoder = None
    asked: list[_Asked] = [_Asked([], None) for _ in towers]
    if options.llm:
        with step("load the language model"):
            loaded.take_language_model()
        decoder, asked = _write_decoder(options, towers, folder, steps, vocabulary)
    with step("write the manifest"):
        carry_files(loaded.model, options.model, folder)
        first, *others = (
            describe_bundle(options, tower, pictures, [*checks, *tower.checks, *placed], decoder, answers)
            for tower, (placed, answers) in zip(towers, asked)
        )
        build = {"seconds": steps.seconds, **first.build}
        manifest = write_manifest(folder, replace(first, build=build).joined_with(others))
    compiled = [record for tower in towers for record in tower.compiled.records]
    return ExportReport(output, manifest, steps.seconds, compiled)


class _Asked(NamedTuple):
    """What the language model was asked at one depth: the witnesses of its prompts, and PyTorch's answers."""

    placed: list[IndependentCheck]
    answers: AskedDepth | None


def _write_decoder(
    options: ExportOptions,
    towers: Sequence[TowerExport],
    folder: Path,
    steps: Steps,
    vocabulary: ReducedVocabulary | None,
) -> tuple[DecoderExport, list[_Asked]]:
    """Write the language model, which is in memory, and compare it once; ask PyTorch at each depth."""
    placed = []
    for tower in towers:
        with steps.step(tower.names.step("compare with independent computations")), quiet():
            tower.loaded.choose_depth()
            placed.append(check_placed_tokens(tower.loaded.model, tower.loaded.checkpoint.processor))
    decoder = write_and_verify(folder, options, towers[0].loaded, towers[0].features, steps, vocabulary)
    answers = [ask_at_depth(folder, decoder, tower.asked, tower.names, steps) for tower in towers]
    return decoder, list(map(_Asked, placed, answers))


def _pictures_of(options: ExportOptions, loaded: LoadedCheckpoint) -> tuple[PreparedPictures, list[IndependentCheck]]:
    preprocessing = loaded.checkpoint.processor.image_processor.preprocessing
    spec, config = loaded.model.vision_model.spec, loaded.model.config
    images = golden_pictures(options.images, 2 * max(preprocessing.height, preprocessing.width))
    prepared = prepare_pictures(images, preprocessing, spec.image_size(config.vision_config))
    return prepared, check_prepared_pictures(options.model, images, prepared, config.tiling_config)
