"""The samples of a stage by index."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from laco_export.errors import LacoError

from .broken import BatchNotes, BrokenSample
from .conversations import KINDS, kinds_of
from .mixture import MixturePart, open_parts, pictures_of_parts
from .odd import OddSample
from .parquet_files import HANDFUL_BYTES, ParquetSource
from .samples import SampleEncoder

if TYPE_CHECKING:
    from laco_export.models.processing import LacoProcessor

_TRIES = 32  # samples that are tried in the place of a broken one
_DRAWS = 128  # samples whose texts are looked at to find some of its kind: of a kind that a tenth is of, twelve
_COUNTED = 2000  # samples that an estimate of the whole is made from


def open_dataset(
    path: Path, processor: LacoProcessor, *, images: Path | None = None, seed: int = 0, **encoding
) -> ConversationDataset:
    """The samples of a data file or a mixture of them.

    Args:
        path: ``.json``, ``.jsonl``, ``.parquet``, a folder or pattern of these, a folder of ``save_to_disk``, or a
            ``.yaml``.
        images: the folder, zip or tar of the pictures; None takes the folder of ``path``.
        seed: of a mixture's ``random`` strategies.
        encoding: ``plain``, ``max_length``, ``tiled``, ``max_frames``, ``like``: see :class:`~.samples.SampleEncoder`.

    Raises:
        DataError: a file is missing or cannot be read, or there is no sample.
    """
    parts = open_parts(path, seed=seed)
    return ConversationDataset(parts, images or path.parent, SampleEncoder(processor, **encoding))


def count_samples(path: Path) -> int:
    """Samples of a data path; reads JSON through, and of parquet only the footers.

    Raises:
        DataError: as :func:`open_dataset`.
    """
    return sum(len(part.rows) for part in open_parts(path))


class ConversationDataset(torch.utils.data.Dataset):
    """Samples as ``{input_ids, labels[, pixel_values, image_sizes], notes}``, see :class:`~.samples.SampleEncoder`.

    A sample that cannot be used is noted, and another one stands in its place, of its kind where one is found: drawn by
    its index alone, so every process and every pass draws the same. ``notes`` is a :class:`~.broken.BatchNotes`; where
    nothing usable was found, it comes alone.

    Args:
        parts: the data files and the rows used of each.
        images: where pictures lie, for parts that do not say.
    """

    def __init__(self, parts: list[MixturePart], images: Path, encoder: SampleEncoder):
        self.parts, self.encoder = parts, encoder
        self.tokenizer = encoder.tokenizer
        self._starts = np.cumsum([0, *(len(part.rows) for part in parts)])
        self._pictures = pictures_of_parts(parts, images)

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int) -> dict:
        return self.usable(index, self.encoder)

    def usable(self, index: int, encode: Callable[..., tuple[dict, bool]]) -> dict:
        """A sample as ``encode`` makes it, or another in its place, with its notes.

        Args:
            encode: called as :class:`~.samples.SampleEncoder` is.
        """
        broken: list[BrokenSample] = []
        for place in self._candidates(index, broken):
            sample = self._encoded(place, encode)
            if sample["notes"].complete:
                return {**sample, "notes": replace(sample["notes"], broken=broken)}
            broken += sample["notes"].broken
        return {"notes": BatchNotes(broken=broken, complete=False)}

    def alone(self, index: int) -> dict:
        """A sample with its notes, or where it is broken the notes alone: nothing takes its place."""
        return self._encoded(index, self.encoder)

    def _encoded(self, index: int, encode: Callable[..., tuple[dict, bool]]) -> dict:
        mended: set[str] = set()
        try:
            entry = self.entry(index)
            sample, truncated = encode(entry, self._pictures[self._part(index)], odd=mended)
        except (LacoError, OSError, LookupError, TypeError, ValueError, AttributeError) as error:
            return {"notes": BatchNotes(broken=[self._describe(index, error)], complete=False)}
        name, file = self._id(index, entry), self.parts[self._part(index)].name
        odd = [OddSample(index, name, file, sorted(mended))] if mended else []
        return {**sample, "notes": BatchNotes(ids=[name], truncated=int(truncated), odd=odd)}

    def entry(self, index: int) -> dict:
        """A sample as its file has it."""
        part = self._part(index)
        return self.parts[part].source[int(self.parts[part].rows[index - self._starts[part]])]

    def _id(self, index: int, entry: object) -> str:
        """The sample's own id, or its file and row."""
        part = self._part(index)
        return self.parts[part].sample_name(int(self.parts[part].rows[index - self._starts[part]]), entry)

    def _candidates(self, index: int, broken: list[BrokenSample]) -> Iterator[int]:
        """A sample, then those to try in its place: its own kind first, judged by their texts, without a picture."""
        yield index
        # Drawn anywhere: pictures tend to be missing in rows, where a folder or an archive was forgotten.
        random = np.random.default_rng((index, len(self)))
        places = random.choice(len(self), size=min(len(self), _DRAWS), replace=False)
        kinds = self.kinds(np.append(places, index))
        for place in places[np.argsort(kinds[:-1] != kinds[-1], kind="stable")].tolist():
            if len(broken) > _TRIES:
                return
            if place != index:
                yield place

    def _describe(self, index: int, error: Exception) -> BrokenSample:
        try:
            entry = self.entry(index)
        except LacoError:
            entry = None
        return BrokenSample.of_error(index, self._id(index, entry), self.parts[self._part(index)].name, error)

    def _part(self, index: int) -> int:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        return int(np.searchsorted(self._starts, index, side="right")) - 1

    def measure(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Kinds (indices into :data:`~.conversations.KINDS`) and estimated tokens of samples; no picture is read."""
        pictures, lengths = np.zeros(len(indices), np.int16), np.zeros(len(indices), np.int32)
        belongs = np.searchsorted(self._starts, indices, side="right") - 1
        for number, part in enumerate(self.parts):
            places = np.flatnonzero(belongs == number)
            rows = part.rows[indices[places] - self._starts[number]]
            if part.source.pictures is not None:
                pictures[places], lengths[places] = part.source.pictures[rows], part.source.text_lengths[rows]
            elif len(rows):
                pictures[places], lengths[places] = part.source.lengths_of(rows)
        return kinds_of(pictures), self.encoder.estimated_tokens(pictures, lengths)

    def kinds(self, indices: np.ndarray) -> np.ndarray:
        """Indices into :data:`~.conversations.KINDS`."""
        return self.measure(indices)[0]

    def lengths(self, indices: np.ndarray) -> np.ndarray:
        """Estimated tokens."""
        return self.measure(indices)[1]

    def counts(self) -> dict:
        """Samples of each kind and tokens in all, for a plan: measured on some 2,000 samples and scaled up."""
        runs = np.linspace(0, max(0, len(self) - _COUNTED // 20), 20).astype(np.int64)
        indices = np.unique(np.concatenate([np.arange(run, run + _COUNTED // 20) for run in runs]))
        indices = np.arange(len(self)) if len(self) <= _COUNTED else indices[indices < len(self)]
        kinds, lengths = self.measure(indices)
        scale = len(self) / len(indices)
        shares = {name: round(int((kinds == number).sum()) * scale) for number, name in enumerate(KINDS)}
        return {
            "kinds": {name: count for name, count in shares.items() if count},
            "estimated_tokens": round(int(lengths.sum()) * scale),
        }

    def shuffled(self, random: np.random.Generator) -> np.ndarray:
        """All indices in a random order that reads parquet row groups one handful after another.

        Every sample draws a place in 0 … 1. Rows of parquet draw theirs in the stretch of their handful (row groups
        of at most :data:`~.parquet_files.HANDFUL_BYTES` in all, drawn from all files), all others anywhere: so the
        sources stay mixed.
        """
        keys = random.random(len(self))
        groups = [group for number in range(len(self.parts)) for group in self._row_groups(number)]
        stretches, filled = [[]], 0
        for place in random.permutation(len(groups)):
            first, last, size = groups[place]
            if filled and filled + size > HANDFUL_BYTES:
                stretches.append([])
                filled = 0
            stretches[-1].append((first, last))
            filled += size
        rows = [sum(last - first for first, last in stretch) for stretch in stretches]
        ends = np.cumsum(rows) / max(1, sum(rows))
        for stretch, end, share in zip(stretches, ends, np.diff(ends, prepend=0)):
            for first, last in stretch:
                keys[first:last] = end - share + keys[first:last] * share
        return np.argsort(keys, kind="stable")

    @property
    def read_together(self) -> int | None:
        """About how many consecutive samples of :meth:`shuffled` share a handful of row groups; None: no limit."""
        groups = [group for number in range(len(self.parts)) for group in self._row_groups(number)]
        size = sum(size for _, _, size in groups)
        return None if not groups else max(1, len(self) * HANDFUL_BYTES // max(HANDFUL_BYTES, size))

    def _row_groups(self, number: int) -> list[tuple[int, int, int]]:
        """First and last index and bytes of a part's row groups, where it has such; only those with rows in use."""
        part, start = self.parts[number], int(self._starts[number])
        if not isinstance(part.source, ParquetSource):
            return []
        edges = start + np.searchsorted(part.rows, part.source.group_starts)
        return [
            (int(first), int(last), int(size))
            for first, last, size in zip(edges, edges[1:], part.source.group_bytes)
            if last > first
        ]
