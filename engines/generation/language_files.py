"""What every text runtime reads of a bundle's language model beside the graph."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

from laco_export.bundle import Bundle
from laco_export.embedding_table import EmbeddingTable
from laco_export.errors import BundleError, telling_line
from laco_export.field_types import FieldError
from laco_export.generation_fields import check_generation_fields
from laco_export.verified_files import BundleChangedError


@contextmanager
def loading_decoder(bundle: Bundle, packages: str) -> Iterator[None]:
    """While a decoder graph is loaded: its files stay those that were verified, and whatever fails is said.

    Args:
        packages: what to update where it fails.

    Raises:
        BundleError: it cannot be loaded, or the bundle was replaced.
    """
    try:
        with bundle.unchanged(*bundle.decoder_files()):
            yield
    except BundleChangedError:
        raise
    except Exception as error:  # onnxruntime and transformers raise many kinds
        import onnxruntime

        graph = bundle.file(bundle.manifest.decoder.graph)
        raise BundleError(
            f"the language model '{graph}' cannot be loaded: {telling_line(error)}",
            given=f"onnxruntime {onnxruntime.__version__}",
            todo=f"update {packages}, or export the bundle again",
        ) from error


def open_embedding(bundle: Bundle) -> EmbeddingTable:
    """The embedding, of the shape that the manifest states.

    Raises:
        BundleError: it cannot be read, has another shape, or the bundle was replaced.
    """
    entry = bundle.manifest.decoder
    with bundle.unchanged(*bundle.decoder_files()):
        table = EmbeddingTable(bundle.path, entry.embedding)
    if table.shape != (entry.vocab_size, entry.hidden_size):
        raise BundleError(
            "the embedding has another shape than the manifest states",
            given=table.shape,
            allowed=(entry.vocab_size, entry.hidden_size),
        )
    return table


def read_generation_fields(bundle: Bundle) -> dict:
    """The fields of the language model's ``generation_config.json``; none where there is no such file.

    Raises:
        BundleError: it cannot be read, or has a field that :mod:`laco_export.generation_fields` does not list.
    """
    name = f"{bundle.manifest.decoder.folder}/generation_config.json"
    if name not in bundle.manifest.files:
        return {}
    try:
        fields = json.loads(bundle.read(name))
        check_generation_fields(fields)
    except FieldError as error:
        raise error.as_error(
            BundleError,
            f"'{bundle.file(name)}' has a field that no answer is generated with",
            "take it out of the checkpoint's generation_config.json, and export it again",
        ) from None
    except (ValueError, RecursionError) as error:
        raise BundleError(
            f"'{bundle.file(name)}' cannot be read: {type(error).__name__}", todo="export the bundle again"
        ) from None
    return fields
