"""LLaVA-OneVision's mixture files: which data files, and how much of each.

::

    datasets:
      - json_path: llava_558k.json          # or .jsonl, .parquet, a folder; relative to the mixture's own folder
        sampling_strategy: all              # first:N, end:N, random:N; N or N% (rounded up, as LLaVA does)
        images: pictures.zip                # LaCo's own, optional: where its pictures lie, relative likewise

``random`` draws by the run's seed and the entry's place in the file, so every process and every resumed run draws
alike.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from math import ceil
from pathlib import Path

import numpy as np
import yaml

from .errors import DataError, NoSamplesError
from .pictures import Pictures, PicturesInRows
from .sources import Source, open_source

STRATEGIES = ("all", "first", "end", "random")
_STRATEGY = re.compile(r"(?P<name>[a-z]+)(?::(?P<number>\d+(?:\.\d+)?)(?P<percent>%?))?")
_KEYS = ("json_path", "sampling_strategy", "images")


@dataclass(frozen=True)
class MixturePart:
    """One data file of a mixture with the rows that are used of it.

    Attributes:
        source: all samples of the file.
        rows: int64, those used, ascending.
        images: the folder or archive of its pictures; None takes the mixture's.
        name: the file, for messages.
    """

    source: Source
    rows: np.ndarray
    images: Path | None
    name: str

    def sample_name(self, row: int, entry: object) -> str:
        """What a sample is called in messages: its own id, or its file and row."""
        name = entry.get("id") if isinstance(entry, dict) else None
        return str(name) if name not in (None, "") else f"{self.name}:{row}"


def open_parts(path: Path, *, seed: int = 0) -> list[MixturePart]:
    """The parts of a mixture file, or any other data path as one part.

    Raises:
        DataError: a file that is missing or cannot be read, an unknown strategy or key, or no sample at all.
    """
    if path.suffix not in (".yaml", ".yml"):
        source = open_source(path)
        return [MixturePart(source, np.arange(len(source)), None, str(path))]
    parts, taken = [], []
    for place, entry in enumerate(read_mixture(path)):
        try:
            source = open_source(path.parent / entry["json_path"])
            rows = sampled_rows(len(source), entry.get("sampling_strategy", "all"), seed=(seed, place))
        except NoSamplesError:
            taken.append(f"{entry['json_path']}: it holds none")
            continue
        except DataError as error:
            raise DataError(
                f"mixture '{path}', entry {place + 1}: {error.failed}",
                given=error.given,
                allowed=error.allowed,
                todo=error.todo,
            ) from None
        images = entry.get("images")
        parts.append(MixturePart(source, rows, path.parent / images if images else None, entry["json_path"]))
        taken.append(f"{entry['json_path']}: {len(rows)} of {len(source)}")
    if not sum(len(part.rows) for part in parts):
        raise DataError(
            f"mixture '{path}' comes out empty",
            given="; ".join(taken),
            todo="take more with sampling_strategy",
        )
    return parts


def pictures_of_parts(parts: Sequence[MixturePart], images: Path) -> list[Pictures]:
    """What reads the pictures of each part; parts of one folder share it.

    Args:
        images: where pictures lie, for parts that do not say.

    Raises:
        DataError: there is no such folder or archive, and the part's own rows hold no pictures.
    """
    opened = cache(Pictures)
    return [
        PicturesInRows(root) if part.source.holds_pictures and not root.exists() else opened(root)
        for part, root in ((part, part.images or images) for part in parts)
    ]


def read_mixture(path: Path) -> list[dict]:
    """The entries of a mixture file, each with a ``json_path``.

    Raises:
        DataError: no such file, no YAML, or an entry of another shape.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"there is no data file '{path}'", todo="check data_folder and stages.*.data") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"mixture '{path}' is not YAML: {' '.join(str(error).split())[:200]}") from None
    entries = values.get("datasets") if isinstance(values, dict) else None
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise DataError(f"mixture '{path}' lists no datasets", allowed="datasets: [{json_path, sampling_strategy}, …]")
    for place, entry in enumerate(entries, start=1):
        for key in entry:
            if key not in _KEYS:
                match = get_close_matches(str(key), _KEYS, n=1)
                raise DataError(
                    f"mixture '{path}', entry {place}: unknown key '{key}'",
                    allowed=", ".join(_KEYS),
                    todo=f"did you mean '{match[0]}'?" if match else None,
                )
        if not isinstance(entry.get("json_path"), str):
            raise DataError(f"mixture '{path}', entry {place} has no json_path")
        if not isinstance(entry.get("images", ""), (str, type(None))):
            raise DataError(
                f"mixture '{path}', entry {place}: images is no path",
                given=repr(entry["images"]),
                allowed="a folder, .zip or .tar, relative to the mixture's folder",
            )
    return entries


def sampled_rows(count: int, strategy: str, *, seed: tuple[int, ...] = (0,)) -> np.ndarray:
    """The rows, ascending, that a sampling strategy takes of ``count``.

    Raises:
        DataError: there is no such strategy.
    """
    match = _STRATEGY.fullmatch(str(strategy).strip())
    if not match or match["name"] not in STRATEGIES or (match["number"] is None) != (match["name"] == "all"):
        raise DataError(
            "sampling_strategy is unknown", given=strategy, allowed="all, first:N, end:N, random:N, each also as N%"
        )
    if match["name"] == "all":
        return np.arange(count)
    if match["percent"]:
        number = ceil(round(float(match["number"]) * count / 100, 9))  # rounded first: 28.000000000000004 is 28
    elif "." in match["number"]:
        raise DataError("sampling_strategy takes whole samples", given=strategy, allowed="N, or N% for a share")
    else:
        number = int(match["number"])
    number = min(count, number)
    if match["name"] == "first":
        return np.arange(number)
    if match["name"] == "end":
        return np.arange(count - number, count)
    return np.sort(np.random.default_rng(seed).permutation(count)[:number])
