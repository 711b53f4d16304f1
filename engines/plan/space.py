"""What there is to choose from: each bundle at each of its depths, with each batch size and number of threads.

A bundle has one precision of its vision tower and one language model, so that bundles, depths, batch sizes and threads
together span depth × precision × language model × vocabulary × batch × threads as far as the bundles given go.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property

from laco_export.bundle import Bundle, VisionGraph
from laco_export.errors import UsageError

from ..bench.measure import QUESTION, random_pictures
from ..prompts.prompter import Prompt, Prompter
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
        """Tokens that the language model can say: those that its head has rows for."""
        decoder = self.bundle.manifest.decoder
        if decoder is None:
            return None
        return decoder.vocab_size if decoder.vocabulary is None else decoder.vocabulary["rows"]

    @cached_property
    def graphs(self) -> dict[int, VisionGraph]:
        """Batch size → vision graph."""
        return {graph.batch: graph for graph in self.bundle.manifest.vision.graphs}

    def graph_sha256(self, batch: int) -> str:
        """Of the vision graph for so many pictures, with its weights."""
        return self.bundle.graph_sha256(self.graphs[batch])

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
        graph = self.graph_sha256(min(self.graphs))
        return hashlib.sha256(f"{graph} {self.decoder_sha256}".encode()).hexdigest()


@dataclass(frozen=True)
class Candidate:
    """A model with a way to run it.

    Attributes:
        batch: pictures of the largest graph of the vision tower that is carried, beside the smallest.
        threads: of this machine's CPU; None on a device elsewhere.
        tiles: that the vision tower sees of one question's pictures; a picture of a model that does not tile is one.
    """

    model: Model
    batch: int
    threads: int | None
    tiles: int

    def __str__(self) -> str:
        threads = "" if self.threads is None else f", {self.threads} thread{'s' * (self.threads > 1)}"
        return f"{self.model.name}, batch {self.batch}{threads}"

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

    @property
    def batches(self) -> list[int]:
        """Sizes of the graphs that are carried."""
        return sorted({min(self.model.graphs), self.batch})

    @property
    def bundle(self) -> Bundle:
        """The bundle with these graphs alone."""
        bundle = self.model.bundle
        vision = bundle.manifest.vision
        graphs = [graph for graph in vision.graphs if graph.batch in self.batches]
        return replace(bundle, manifest=replace(bundle.manifest, vision=replace(vision, graphs=graphs)))

    @property
    def runs(self) -> list[int]:
        """Batch sizes of the graphs that a question runs, in order."""
        return split_batch(self.tiles, self.batches)

    @property
    def vision_sha256(self) -> str:
        """Of the graphs that a question runs, so that what has the same ones is timed once."""
        digests = [self.model.graph_sha256(batch) for batch in self.runs]
        return hashlib.sha256(" ".join(digests).encode()).hexdigest()


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
    models: Sequence[Model], *, pictures: int, threads: Sequence[int | None], batches: Sequence[int] = ()
) -> list[Candidate]:
    """All ways to run the models.

    Args:
        pictures: of one question. A graph for more tiles than they have would be padded; the smallest is tried
            whatever its size.
        threads: numbers of CPU threads to try.
        batches: batch sizes to try; empty tries those that the bundles have graphs for.
    """
    return [
        Candidate(model, batch, count, tiles)
        for model in models
        for tiles in [tiles_of(model, pictures)]
        for batch in sorted(model.graphs)
        if (not batches or batch in batches) and (batch <= tiles or batch == min(model.graphs))
        for count in threads
    ]


def require_graphs(models: Sequence[Model], batches: Sequence[int]) -> None:
    """Raise :class:`UsageError` where no model has a vision graph for one of ``batches``."""
    carried = {batch for model in models for batch in model.graphs}
    if missing := sorted(set(batches) - carried):
        raise UsageError(
            "no bundle has a vision graph for this number of pictures",
            given=", ".join(map(str, missing)),
            allowed=", ".join(map(str, sorted(carried))),
            todo=f"export one: laco-export --batch {' '.join(map(str, sorted({*carried, *missing})))}",
        )


def tiles_of(model: Model, pictures: int) -> int:
    """Tiles of the pictures of the question that is timed."""
    if model.bundle.manifest.vision.tiling is None or model.bundle.manifest.decoder is None:
        return pictures
    return len(timed_prompt(model, pictures).pixel_values)


@cache
def timed_prompt(model: Model, pictures: int) -> Prompt:
    """The question that is timed, as the model reads it; nothing is computed."""
    return Prompter(model.bundle).prepare(random_pictures(0, pictures), QUESTION)
