"""The decoder's graph without its weights: written by Optimum, or by torch's exporter alone where Optimum is not there.

optimum-onnx 0.1.0 allows no transformers 5. The two write the same bytes (``tests/…/decoder/test_tracing.py``): the
nodes are :mod:`.skeleton`'s. A trace takes a second and a few megabytes whatever the model's size: its nodes name the
weights, and :mod:`.realize` writes them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...errors import ExportError, telling_line
from ...exportable import require_exportable
from ...optimum_conflict import optimum_conflict
from ...quiet import quiet_libraries

GRAPH = "model.onnx"
OPSET = 20


def trace(language_model, folder: Path, *, by_optimum: bool | None = None) -> Path:
    """Write the graph of names and the model's configurations into ``folder`` and return the graph's path.

    Args:
        by_optimum: None where it can be imported.

    Raises:
        ExportError: the model is not of a supported kind, or its export failed.
    """
    require_exportable(language_model.config)
    with quiet_libraries(), _unchanged(language_model):
        if by_optimum is None:
            by_optimum = has_optimum()
        if by_optimum:
            from .optimum_tracing import trace_by_optimum as write
        else:
            from .torch_tracing import trace_by_torch as write
        try:
            write(language_model, folder / GRAPH, opset=OPSET)
        except OSError:  # a full disk, say: told as such
            raise
        except Exception as error:
            raise ExportError(
                f"the language model could not be exported: {type(error).__name__}: {telling_line(error)}",
                given=f"model_type {language_model.config.model_type}",
            ) from error
    written = {path.name for path in folder.iterdir()}
    if not {GRAPH, "config.json"} <= written:
        raise ExportError("the decoder's files were not written", given=", ".join(sorted(written)))
    return folder / GRAPH


def has_optimum() -> bool:
    """Whether Optimum's exporter is installed beside versions that it allows, and can be imported."""
    if optimum_conflict():
        return False
    try:
        import optimum.exporters.onnx  # noqa: F401
    except ImportError:
        return False
    return True


@contextmanager
def _unchanged(language_model) -> Iterator[None]:
    """Exporters set fields of the model's configurations and its mode; put them back."""
    owners = [language_model.config, language_model.generation_config]
    before = [copy.copy(vars(owner)) for owner in owners]
    training = language_model.training
    try:
        yield
    finally:
        for owner, values in zip(owners, before):
            vars(owner).clear()
            vars(owner).update(values)
        language_model.train(training)
