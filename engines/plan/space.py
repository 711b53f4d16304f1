"""What there is to choose from: each bundle at each of its depths, with each batch size and number of threads.

A bundle has one precision of its vision tower and one language model, so that bundles, depths, batch sizes and threads
together span depth × precision × language model × vocabulary × batch × threads as far as the bundles given go.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from laco_export.bundle import Bundle, VisionGraph
from laco_export.errors import UsageError

from ..runtimes.protocol import split_batch


@dataclass(frozen=True, eq=False)
class Model:
    """What answers: one bundle at one depth.

    Attributes:
        name: the bundle as the user named it, with ``@depth`` where it carries several.
        depth: as it was configured: ``1/2``.
        bundle: the bundle at this depth alone.
    """

    name: str
    depth: str
    bundle: Bundle

    @property
    def precision(self) -> str:
        """Of the vision tower."""
        return self.bundle.manifest.vision.precision

    @property
    def language_model(self) -> str | None:
        """The decoder's precision; None where there is no decoder."""
        decoder = self.bundle.manifest.decoder
        return None if decoder is None else decoder.precision

    @property
    def vocabulary(self) -> int | None:
        """Tokens that the language model knows."""
        decoder = self.bundle.manifest.decoder
        return None if decoder is None else decoder.vocab_size

    @property
    def graphs(self) -> dict[int, VisionGraph]:
        """Batch size → vision graph."""
        return {graph.batch: graph for graph in self.bundle.manifest.vision.graphs}

    @cached_property
    def decoder_sha256(self) -> str | None:
        """Of the language model's files by their hashes, so that bundles with the same one are timed once."""
        if self.bundle.manifest.decoder is None:
            return None
        files = self.bundle.manifest.files
        text = "\n".join(f"{name} {files[name]['sha256']}" for name in sorted(self.bundle.decoder_files()))
        return hashlib.sha256(text.encode()).hexdigest()

    @cached_property
    def answers_sha256(self) -> str:
        """Of all that decides what it answers: the graph for one picture (or the fewest), and the language model."""
        graph = self.bundle.graph_sha256(self.graphs[min(self.graphs)])
        return hashlib.sha256(f"{graph} {self.decoder_sha256}".encode()).hexdigest()


@dataclass(frozen=True)
class Candidate:
    """A model with a way to run it.

    Attributes:
        batch: pictures of one call of the vision tower.
        threads: of the CPU.
    """

    model: Model
    batch: int
    threads: int

    def __str__(self) -> str:
        plural = "s" * (self.threads > 1)
        return f"{self.model.name}, batch {self.batch}, {self.threads} thread{plural}"

    def to_dict(self) -> dict:
        """For ``--json``."""
        model = self.model
        return {
            "bundle": str(model.bundle.path),
            "name": model.name,
            "depth": model.depth,
            "vision": model.precision,
            "language_model": model.language_model,
            "vocabulary": model.vocabulary,
            "batch": self.batch,
            "threads": self.threads,
        }

    def calls(self, pictures: int) -> int:
        """Calls of the vision tower for so many pictures."""
        return len(split_batch(pictures, [self.batch]))


def models_of(bundles: Mapping[str, Bundle]) -> list[Model]:
    """Each bundle at each depth that it carries.

    Args:
        bundles: name, as the user knows it, → verified bundle.
    """
    return [
        Model(f"{name}@{depth}" if len(bundle.depths) > 1 else name, depth, bundle.at(depth))
        for name, bundle in bundles.items()
        for depth in bundle.depths
    ]


def space_of(
    models: Sequence[Model], *, pictures: int, threads: Sequence[int], batches: Sequence[int] = ()
) -> list[Candidate]:
    """All ways to run the models.

    Args:
        pictures: of one question. A graph for more of them would be padded; the smallest graph is tried whatever its
            size.
        threads: numbers of CPU threads to try.
        batches: batch sizes to try; empty tries those that the bundles have graphs for.

    Raises:
        UsageError: no bundle has a graph for one of ``batches``.
    """
    carried = {batch for model in models for batch in model.graphs}
    if missing := sorted(set(batches) - carried):
        raise UsageError(
            "no bundle has a vision graph for this number of pictures",
            given=", ".join(map(str, missing)),
            allowed=", ".join(map(str, sorted(carried))),
            todo=f"export one: laco-export --batch {' '.join(map(str, sorted({*carried, *missing})))}",
        )
    return [
        Candidate(model, batch, count)
        for model in models
        for batch in sorted(model.graphs)
        if (not batches or batch in batches) and (batch <= pictures or batch == min(model.graphs))
        for count in threads
    ]
