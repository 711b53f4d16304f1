"""Parquet as it comes, for data that is not on this machine's disk.

A path is local or a URL that fsspec knows: ``hf://datasets/…/*.parquet``, ``s3://…``.
``datasets`` reads the rows, deals them out to processes and workers, and tells where it stands. The order: the files
are shuffled by seed and pass, and within each run of ``shuffle_buffer`` rows the rows are. Such a run can be read again
from where it began, so a resumed stream goes on with exactly the sample that comes next; what ``datasets``' own shuffle
buffer holds is lost on resuming. There is no grouping by length, and the order depends on the number of processes and
workers.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from laco_export.errors import LacoError

from .broken import BatchNotes, BrokenSample
from .errors import DataError
from .odd import OddSample
from .parquet_files import check_columns
from .pictures import Pictures, PicturesInRows
from .samples import SampleEncoder

if TYPE_CHECKING:
    from laco_export.models.processing import LacoProcessor

    from .batches import Collator

_TRIES = 32  # broken rows in a row, after which nothing in this data can be trusted
_PREFETCHED = 2  # batches that each worker makes ahead, DataLoader's number


class ConversationStream:
    """The samples of parquet files in a stream without end: after the last row the next pass begins.

    Args:
        path: a file, a pattern or a folder; local, or a URL that fsspec knows.
        images: where pictures lie that are only named; None: every picture's bytes are in its row.
        rank, world_size: this process, of how many.
        seed: of the order.
        shuffle_buffer: rows that are held and shuffled together by each worker.
        encoding: see :class:`~.samples.SampleEncoder`.

    Raises:
        DataError: there are no such files, or no parquet.
    """

    def __init__(
        self,
        path: str | Path,
        processor: LacoProcessor,
        *,
        images: Path | None = None,
        rank: int = 0,
        world_size: int = 1,
        seed: int = 0,
        shuffle_buffer: int = 1000,
        **encoding,
    ):
        self.path, self.rank, self.world_size = str(path), rank, world_size
        self.seed, self.shuffle_buffer = seed, shuffle_buffer
        self.encoder = SampleEncoder(processor, **encoding)
        self.tokenizer = self.encoder.tokenizer
        self.pictures = Pictures(images) if images else PicturesInRows()
        self.files = stream_files(self.path)
        self.workers = 1
        self._positions: dict[int, dict] = {}
        self._next_worker = 0

    def __len__(self) -> int:
        """Rows of one pass over all processes, from the files' footers."""
        return self._rows

    @cached_property
    def _rows(self) -> int:
        return sum(_count_rows(file) for file in self.files)

    def loader(self, batch_size: int, *, workers: int = 0, collator: Collator) -> StreamLoader:
        """Batches of this process's share, from where the stream stands.

        Args:
            workers: processes that read ahead, each its own share of the files (of the rows, where there are fewer
                files than shares); 0 reads in this process.
        """
        if self._positions and max(1, workers) != self.workers:
            raise DataError(
                "a stream is resumed with another number of workers",
                given=workers,
                allowed=self.workers,
                todo="set the stage's workers as they were",
            )
        self.workers = max(1, workers)
        shares = [_Share(self, worker, self._positions.get(worker)) for worker in range(self.workers)]
        return StreamLoader(self, shares, batch_size, collator, first=self._next_worker, in_process=workers == 0)

    def consumed(self, notes: BatchNotes) -> None:
        """Take note that a batch was trained on: the position moves behind it."""
        for worker, position in notes.positions.items():
            self._positions[worker] = position
            self._next_worker = (worker + 1) % self.workers

    def state_dict(self) -> dict:
        """This process's position behind the last batch that was :meth:`consumed`; plain values."""
        return {
            "world_size": self.world_size,
            "workers": self.workers,
            "next_worker": self._next_worker,
            "positions": {str(worker): position for worker, position in self._positions.items()},
        }

    def load_state_dict(self, state: dict) -> None:
        """Go on from where :meth:`state_dict` was taken; before :meth:`loader` is called.

        Raises:
            DataError: it was taken with another number of processes.
        """
        if state["world_size"] != self.world_size:
            raise DataError(
                "a stream is resumed with another number of processes",
                given=self.world_size,
                allowed=state["world_size"],
                todo="start as many processes as before",
            )
        self.workers, self._next_worker = state["workers"], state["next_worker"]
        self._positions = {int(worker): position for worker, position in state["positions"].items()}


class StreamLoader:
    """Batches of the workers in turn. Each is a DataLoader of its own, so that a resumed stream can start with any."""

    def __init__(self, stream: ConversationStream, shares, batch_size: int, collator, *, first: int, in_process: bool):
        self.dataset, self.batch_size, self._first = stream, batch_size, first
        options = {} if in_process else {"num_workers": 1, "prefetch_factor": _PREFETCHED}
        self._loaders = [
            torch.utils.data.DataLoader(share, batch_size=batch_size, collate_fn=collator, drop_last=True, **options)
            for share in shares
        ]

    def __iter__(self) -> Iterator[dict]:
        iterators = [iter(loader) for loader in self._loaders]
        worker = self._first
        while True:
            try:
                yield next(iterators[worker])
            except StopIteration:
                raise DataError(
                    f"worker {worker} has no rows of '{self.dataset.path}' to read",
                    given=f"{len(self.dataset)} rows for {self.dataset.world_size} x {len(iterators)} workers",
                    todo="set fewer workers",
                ) from None
            worker = (worker + 1) % len(iterators)


class _Share(torch.utils.data.IterableDataset):
    """What one worker reads."""

    def __init__(self, stream: ConversationStream, worker: int, position: dict | None):
        self.stream, self.worker = stream, worker
        self.position = position or {"epoch": 0, "block": 0, "taken": 0, "before": None}

    def __iter__(self) -> Iterator[dict]:
        start, broken = self.position, []
        for row, place in self._rows(**start):
            where, mended = {self.worker: place}, set()
            try:
                sample, truncated = self.stream.encoder(row, self.stream.pictures, mended)
            except (LacoError, OSError, LookupError, TypeError, ValueError, AttributeError) as error:
                broken.append(self._describe(row, error))
                if len(broken) > _TRIES:
                    yield {"notes": BatchNotes(broken=broken, complete=False, positions=where)}
                    broken = []
                continue
            ids = [str(row.get("id") or "")]
            odd = [OddSample(*self._named(row), self.stream.path, sorted(mended))] if mended else []
            notes = BatchNotes(ids=ids, truncated=int(truncated), broken=broken, odd=odd, positions=where)
            yield {**sample, "notes": notes}
            broken = []

    def _rows(self, *, epoch: int, block: int, taken: int, before: dict | None) -> Iterator[tuple[dict, dict]]:
        """Rows from a position (``taken`` rows of the block that began at ``before``), each with the place after it."""
        while True:
            rows = self._pass(epoch)
            if before is not None:
                rows.load_state_dict(before)
            reader, is_empty = iter(rows), True
            while True:
                before = rows.state_dict()
                held = list(islice(reader, self.stream.shuffle_buffer))
                if not held:
                    break
                is_empty = False
                order = np.random.default_rng((self.stream.seed, epoch, self._part, block)).permutation(len(held))
                for place in range(taken, len(held)):
                    yield held[order[place]], {"epoch": epoch, "block": block, "taken": place + 1, "before": before}
                block, taken = block + 1, 0
            if is_empty and block == 0:
                return  # this share is empty: there are fewer rows than shares
            epoch, block, taken, before = epoch + 1, 0, 0, None

    @property
    def _part(self) -> int:
        return self.stream.rank * self.stream.workers + self.worker

    def _pass(self, epoch: int):
        from datasets import load_dataset
        from datasets.distributed import split_dataset_by_node

        order = np.random.default_rng((self.stream.seed, epoch)).permutation(len(self.stream.files))
        files = [self.stream.files[place] for place in order]
        rows = load_dataset("parquet", data_files={"train": files}, split="train", streaming=True).decode(False)
        return split_dataset_by_node(rows, rank=self._part, world_size=self.stream.world_size * self.stream.workers)

    def _describe(self, row: dict, error: Exception) -> BrokenSample:
        return BrokenSample.of_error(*self._named(row), self.stream.path, error)

    @staticmethod
    def _named(row: dict) -> tuple[int, str]:
        """A row's index and id for the logs."""
        if name := str(row.get("id") or ""):
            return -1, name
        # Told from others by what it holds: the same in every pass, and whichever process reads it.
        said = [str(turn.get("value")) for turn in row.get("conversations") or [] if isinstance(turn, dict)]
        name = f"without an id: {' '.join(said[0].split())[:60] if said else 'no conversation'}"
        return zlib.crc32(repr(row).encode("utf-8", "replace")), name


def stream_files(path: str) -> list[str]:
    """The parquet files of a path or URL, sorted; a pattern or a folder may stand for several.

    Raises:
        DataError: there are none, or no way to reach them.
    """
    import fsspec

    try:
        system, inner = fsspec.url_to_fs(path)
        if any(character in inner for character in "*?["):
            names = system.glob(inner)
        elif system.isdir(inner):
            names = system.glob(inner.rstrip("/") + "/**/*.parquet")
        else:
            names = [inner] if system.exists(inner) else []
    except (OSError, ValueError, ImportError) as error:
        raise DataError(f"data '{path}' cannot be reached: {' '.join(str(error).split())[:200]}") from None
    if not names:
        raise DataError(f"there are no parquet files in '{path}'", todo="check data_folder and stages.*.data")
    if wrong := [name for name in names if not name.endswith(".parquet")]:
        raise DataError(f"only parquet can be streamed, and '{wrong[0]}' is none", todo="set streaming: false")
    return sorted(system.unstrip_protocol(name) for name in names)


def _count_rows(file: str) -> int:
    import fsspec
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with fsspec.open(file, "rb") as handle:
            parquet = pq.ParquetFile(handle)
            check_columns(parquet.schema_arrow, f"parquet '{file}'")
            return parquet.metadata.num_rows
    except (pa.ArrowException, OSError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(f"data file '{file}' is not parquet, or cut off: {reason}") from None
