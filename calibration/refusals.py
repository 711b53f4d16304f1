"""What a calibration refuses before PyTorch and the graph tools are imported: all that needs no weights."""

from __future__ import annotations

from laco_export.atomic import refuse_existing
from laco_export.bundle import read_manifest, refuse_to_replace_non_bundle
from laco_export.console import say
from laco_export.errors import UsageError
from laco_export.exporter.refusals import check_source
from laco_export.required_packages import EXPORT_PACKAGES, require_packages

from .options import CalibrationOptions, source_target_of, with_target
from .source.picture_set import require_sources
from .source.source_bundle import check_manifest

_PACKAGES = (*EXPORT_PACKAGES, "matplotlib")
"""What a calibration is made with; it draws its blocks."""


def check_calibration(options: CalibrationOptions) -> None:
    """Refuse what cannot be calibrated as asked, by the files' names, the manifest and the checkpoint's headers.

    Raises:
        BundleError, CheckpointError, DepthError, CalibrationError: what it is to start from cannot be used.
        OutputExistsError, UsageError: the output's name is taken.
        PackageMissingError: a package that calibrations need is not installed.
    """
    options, _ = with_target(options, source_target_of(options), tell=say)
    refuse_output_name(options)
    if options.model is not None:
        check_source(options.model, options.at, has_decoder=True)
    else:
        asks_questions = options.questions is not None
        manifest = read_manifest(options.bundle)
        if options.at is not None:
            manifest = manifest.at(options.at)
        check_manifest(manifest, options.bundle, options.target, asks_questions=asks_questions)
    require_sources(options.images)
    require_packages(*_PACKAGES)


def refuse_output_name(options: CalibrationOptions) -> None:
    """Refuse an output that is there, before anything takes time.

    Raises:
        OutputExistsError, UsageError: it is, and may not be replaced.
    """
    output = options.output_folder
    refuse_existing(output, force=options.force)
    refuse_to_replace_non_bundle(output)
    if options.bundle is not None and output.resolve() == options.bundle.resolve():
        raise UsageError(f"the output '{output}' is the bundle that it starts from", todo="choose another --output")
