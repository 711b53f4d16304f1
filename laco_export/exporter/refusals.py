"""What an export refuses before PyTorch is imported: all that needs no weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..atomic import refuse_existing
from ..bundle import refuse_to_replace_non_bundle
from ..required_packages import EXPORT_PACKAGES, require_packages
from ..stated_checkpoint import StatedCheckpoint, read_stated_checkpoint
from .golden_pictures import golden_files
from .options import ExportOptions


def check_export(options: ExportOptions) -> None:
    """Refuse what cannot be exported as asked, by the files' names, their JSON and their headers.

    Raises:
        CheckpointError: no checkpoint, or one without whole weight files.
        DepthError: it carries no merges at ``options.at``.
        ExportError: a language model that cannot be exported.
        OutputExistsError: the output stands and may not be replaced.
        UsageError: no such pictures.
        PackageMissingError: a package that exports need is not installed.
    """
    stated, depths = check_source(options.model, options.at, has_decoder=bool(options.llm))
    if stated.is_resolved:
        refuse_output(options.output_for(*depths), force=options.force)
    golden_files(options.images)
    require_packages(*EXPORT_PACKAGES)


def check_source(
    folder: Path, at: str | Sequence[str] | None, *, has_decoder: bool
) -> tuple[StatedCheckpoint, tuple[str, ...]]:
    """A checkpoint by what it states of itself, and the depths that ``at`` names; none of one without merges.

    Args:
        at: as :meth:`.compression.CompressionConfig.find_all` takes it.
        has_decoder: the language model is to be exported too.

    Raises:
        CheckpointError, DepthError, ExportError: see :func:`check_export`.
    """
    stated = read_stated_checkpoint(folder)
    if has_decoder:
        stated.check_exportable()
    depths = stated.compression.find_all(at) if stated.is_resolved else ()
    stated.check_weights()
    return stated, depths


def refuse_output(output: Path, *, force: bool) -> None:
    """Refuse a bundle's name that is taken by what ``force`` does not replace, or by anything without it.

    Raises:
        OutputExistsError: it is.
    """
    refuse_existing(output, force=force)
    refuse_to_replace_non_bundle(output)
