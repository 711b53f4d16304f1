"""Text runtimes behind one protocol: what runs a bundle's language model.

::

    text = open_text_runtime(bundle)                     # the best that is here
    text = open_text_runtime(bundle, name="lean")        # or the one that is asked for

Adding one is one file with a class of the :class:`TextRuntime` protocol, and one line in :data:`TEXT_RUNTIMES`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

import numpy as np

from laco_export.bundle import Bundle
from laco_export.errors import LacoError, UsageError, telling_line
from laco_export.optimum_conflict import optimum_conflict

from .logits_processors import LogitsProcessor
from .options import GenerationOptions

if TYPE_CHECKING:
    from .prefix_cache import PastKeyValues
    from .streaming import RowText


class TextRuntimeMissingError(LacoError):
    """A text runtime that was asked for cannot be used here: a package of it is missing."""


@dataclass(frozen=True, eq=False)
class EmbeddedPrompt:
    """A prompt as the language model reads it.

    Attributes:
        ids: int64 ``[T]``, of the whole prompt.
        embeds: float32 ``[T - P, D]``, of the positions that no cache holds.
    """

    ids: np.ndarray
    embeds: np.ndarray


class TextRuntime(Protocol):
    """A loaded language model.

    Attributes:
        name: the runtime and what computes under it, for people: ``lean on onnxruntime 1.31.1 CPU``. Its first word is
            a name of :data:`TEXT_RUNTIMES`.
        provider: ONNX Runtime's name of the execution provider that computes.
        session: ONNX Runtime's, of the decoder graph.
        decoder: the runtime's own object: Optimum's model, or the lean decoder.
        passed_over: why each runtime that would have been preferred was not taken, a sentence each.
    """

    name: str
    provider: str
    passed_over: tuple[str, ...]

    @property
    def session(self): ...

    @property
    def decoder(self): ...

    def prepare_prompt_lookup(self, mode: str) -> None:
        """Measure what :attr:`GenerationOptions.prompt_lookup` needs to know, once.

        Raises:
            UsageError: this runtime, or this language model on it, does not do it.
        """
        ...

    def embed(self, token_ids: np.ndarray) -> np.ndarray:
        """Token ids, int64 ``[T]``, to embeddings, float32 ``[T, D]``, that may be written into."""
        ...

    def logits(self, embeds: np.ndarray, logits_to_keep: int) -> np.ndarray:
        """One pass over embeddings, float32 ``[T, D]``: the logits of the last positions, ``[logits_to_keep, V]``."""
        ...

    def generate(
        self,
        prompts: Sequence[EmbeddedPrompt],
        rows: Sequence[RowText],
        options: GenerationOptions,
        *,
        past: PastKeyValues | None = None,
        processors: Sequence[LogitsProcessor] = (),
        cancelled: Callable[[], bool] | None = None,
    ) -> PastKeyValues:
        """Answer prompts, each into its row, until all rows have ended.

        Args:
            prompts: of any lengths.
            rows: as many; their ``limit`` is one.
            past: what was read of a single prompt's beginning; it is written into.
            processors: see each step's logits.
            cancelled: asked after each token; the answers end where it says True.

        Returns:
            the KV cache: ``past``, or a new one.
        """
        ...


def _optimum(bundle: Bundle, threads: int | None, provider: str | None) -> TextRuntime:
    from .optimum_runtime import OptimumText

    return OptimumText(bundle, threads=threads, provider=provider)


def _lean(bundle: Bundle, threads: int | None, provider: str | None) -> TextRuntime:
    from .lean_runtime import LeanText

    return LeanText(bundle, threads=threads, provider=provider)


TEXT_RUNTIMES: dict[str, Callable[[Bundle, int | None, str | None], TextRuntime]] = {"optimum": _optimum, "lean": _lean}
"""By name, the preferred first: Optimum ONNX Runtime with transformers' ``generate`` where it is installed, then ONNX
Runtime alone."""

_LOOKS_UP = "lean"  # the one with prompt lookup

_NEEDS = {"optimum": ("torch", "transformers", "optimum.onnxruntime"), "lean": ()}
_INSTALL = "pip install 'laco-export[llm]', or take --text-runtime lean"


def choose_text_runtime(name: str | None = None, *, prompt_lookup: bool = False) -> tuple[str, tuple[str, ...]]:
    """The text runtime asked for, or the best whose packages are here; nothing of it is imported.

    Args:
        prompt_lookup: one that does it.

    Returns:
        its name, and why each better one was passed over.

    Raises:
        UsageError: no such name, or one without prompt lookup.
        TextRuntimeMissingError: a package of the one that was asked for is missing.
    """
    if name is not None and name not in TEXT_RUNTIMES:
        raise UsageError("there is no such text runtime", given=name, allowed=", ".join(TEXT_RUNTIMES))
    if prompt_lookup and name not in (None, _LOOKS_UP):
        raise no_prompt_lookup(name)
    passed_over = []
    for candidate in TEXT_RUNTIMES if name is None else [name]:
        if prompt_lookup and candidate != _LOOKS_UP:
            passed_over.append(f"the text runtime '{candidate}' has no prompt lookup")
        elif (hindrance := _hindrance(candidate)) is None:
            return candidate, tuple(passed_over)
        else:
            passed_over.append(f"the text runtime '{candidate}' {hindrance}")
    raise TextRuntimeMissingError(passed_over[0], given=f"--text-runtime {name}", todo=_INSTALL)


def no_prompt_lookup(name: str) -> UsageError:
    """The error for prompt lookup on a text runtime that does not do it."""
    return UsageError(
        f"the text runtime '{name}' has no prompt lookup",
        allowed=_LOOKS_UP,
        todo=f"take --text-runtime {_LOOKS_UP}, or leave out --prompt-lookup",
    )


def open_text_runtime(
    bundle: Bundle,
    *,
    name: str | None = None,
    threads: int | None = None,
    provider: str | None = None,
    prompt_lookup: str | None = None,
) -> TextRuntime:
    """Load a bundle's language model.

    Args:
        name: of :data:`TEXT_RUNTIMES`; default: the best that is here.
        threads: of the CPU; default: the cores that this process may use.
        provider: a name of :data:`laco_engines.providers.PROVIDERS`; default: the best that is there.
        prompt_lookup: prepare it, in this mode of :attr:`GenerationOptions.prompt_lookup`.

    Raises:
        UsageError, TextRuntimeMissingError, ProviderMissingError: what was asked for is unknown or missing.
        BundleError: the language model cannot be loaded.
    """
    chosen, passed_over = choose_text_runtime(name, prompt_lookup=prompt_lookup is not None)
    try:
        text = TEXT_RUNTIMES[chosen](bundle, threads, provider)
    except ImportError as error:  # installed, and not with the versions of its packages that are here
        reason = f"the text runtime '{chosen}' cannot be imported: {telling_line(error)}"
        if name is not None or chosen == "lean":
            raise TextRuntimeMissingError(reason, todo=_INSTALL) from error
        passed_over = (*passed_over, reason)
        text = TEXT_RUNTIMES["lean"](bundle, threads, provider)
    text.passed_over = passed_over
    if prompt_lookup is not None:
        text.prepare_prompt_lookup(prompt_lookup)
    return text


def _hindrance(name: str) -> str | None:
    """Why a text runtime cannot be used here."""
    if missing := [package for package in _NEEDS[name] if not _installed(package)]:
        return f"needs {', '.join(missing)}, which is not installed"
    conflict = optimum_conflict() if name == "optimum" else None
    return conflict and f"cannot be used: {conflict}"


def _installed(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:  # the package that it lies in is missing
        return False
