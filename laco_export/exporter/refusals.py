"""What an export refuses before PyTorch is imported: all that needs no weights."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..atomic import refuse_existing
from ..bundle import refuse_to_replace_non_bundle
from ..chat_format import ChatFormat
from ..required_packages import EXPORT_PACKAGES, require_packages
from ..stated_checkpoint import StatedCheckpoint, read_stated_checkpoint
from ..weight_files import read_json
from .golden_pictures import golden_files
from .options import ExportOptions


def check_export(options: ExportOptions) -> None:
    """Refuse what cannot be exported as asked, by the files' names, their JSON and their headers.

    Raises:
        CheckpointError: no checkpoint, or one without whole weight files.
        DepthError: it carries no merges at ``options.at``.
        ExportError: a language model that cannot be exported.
        OutputExistsError: the output stands and may not be replaced.
        UsageError: no such pictures, or a reduced vocabulary that does not fit the tokenizer.
        PackageMissingError: a package that exports need is not installed.
    """
    stated, depths = check_source(options.model, options.at, has_decoder=bool(options.llm))
    if stated.is_resolved:
        refuse_output(options.output_for(*depths), force=options.force)
    golden_files(options.images)
    _check_vocabulary(options, stated)
    require_packages(*EXPORT_PACKAGES)


def _check_vocabulary(options: ExportOptions, stated: StatedCheckpoint) -> None:
    """Refuse listed tokens and a size that the checkpoint's tokenizer does not have, as far as its files state what an
    answer needs; the export itself, which chooses the tokens, knows all of it.

    Raises:
        UsageError: see :func:`.decoder.reduced_vocabulary.choose_vocabulary`.
    """
    request, path = options.vocabulary_request(), stated.folder / "tokenizer.json"
    vocab_size = (stated.values.get("text_config") or {}).get("vocab_size")
    if request is None or not isinstance(vocab_size, int) or not path.is_file():
        return
    from tokenizers import Tokenizer

    from .decoder.reduced_vocabulary import NeededTokens, kept_in_any_case

    try:
        chat_format = ChatFormat.from_dict(read_json(stated.folder / "processor_config.json").get("chat_format") or {})
        tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
    except Exception:  # whatever is wrong with these files is told where they are loaded
        return
    answer_end = tokenizer.token_to_id(chat_format.answer_end)
    ends = [] if answer_end is None else [answer_end]
    kept_in_any_case(request, tokenizer, NeededTokens(tokenizer, chat_format, ends, vocab_size), vocab_size)


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
