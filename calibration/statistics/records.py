"""What a calibration saw: one histogram a tensor, keyed by the graph and the pictures, kept as readable JSON.

Two files over the same graph can be merged (the counts add up exactly) and compared (how far the ranges lie apart,
before and after the merge).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from laco_export.atomic import write_text

from ..errors import CalibrationError
from ..graph.linear_layers import block_of
from .histogram import Histogram
from .thresholds import METHODS, clip_range

_FORMAT = 1
STATISTICS_NAME = "calibration.json"
MLP_BRANCH, RESIDUAL_BRANCH = "MLP branch", "residual branch"
"""Behind a merge's region and a colon."""


@dataclass
class TensorStatistics:
    """One tensor of the graph.

    Attributes:
        region: where it is: before the merge, in which of the merge's branches, after it, in the projector; where a
            path has several merges, by which of them.
        readers: the Linear layers that read it; empty for a tensor that is only watched.
    """

    region: str
    readers: list[str]
    histogram: Histogram = field(default_factory=Histogram)


@dataclass
class Statistics:
    """Everything seen.

    Attributes:
        graph: SHA-256 over the graph file and its weights.
        smoothing: SHA-256 over the scales that were folded in before (:mod:`laco_calibration.smoothing`); None without.
        scales: those scales, Linear input → per channel, so that the smoothed graph can be made again.
        strengths: block → the strength that they were made with.
        pictures: SHA-256 of each picture's file, in the order in which they were seen.
        broken: file → reason.
    """

    graph: str
    tensors: dict[str, TensorStatistics]
    smoothing: str | None = None
    scales: dict[str, list[float]] = field(default_factory=dict)
    strengths: dict[str, float] = field(default_factory=dict)
    pictures: list[str] = field(default_factory=list)
    broken: dict[str, str] = field(default_factory=dict)

    def to_json(self) -> dict:
        return {
            "format": _FORMAT,
            "graph_sha256": self.graph,
            "smoothing_sha256": self.smoothing,
            "pictures_sha256": self.pictures,
            "broken": self.broken,
            "smoothing_strengths": self.strengths,
            "smoothing_scales": self.scales,
            "tensors": {
                name: {"region": seen.region, "readers": seen.readers, **seen.histogram.to_json()}
                for name, seen in self.tensors.items()
            },
        }

    def digest(self) -> str:
        """SHA-256 over what was seen: equal for equal counts, whatever the order of the pictures."""
        document = {**self.to_json(), "pictures_sha256": sorted(self.pictures)}
        return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()

    def save(self, path: Path) -> None:
        """Replace ``path`` in one step, one line a tensor."""
        document = self.to_json()
        tensors = document.pop("tensors")
        head = json.dumps(document, indent=1, ensure_ascii=False).removesuffix("\n}")
        lines = ",\n".join(f"  {json.dumps(name)}: {json.dumps(tensor)}" for name, tensor in tensors.items())
        write_text(path, f'{head},\n "tensors": {{\n{lines}\n }}\n}}\n')

    @classmethod
    def load(cls, path: Path) -> Statistics:
        """Read what :meth:`save` wrote.

        Raises:
            CalibrationError: no such file, or not one of ours.
        """
        try:
            document = json.loads(Path(path).read_text(encoding="utf-8"))
            if document["format"] != _FORMAT:
                raise ValueError(f"format {document['format']}, this version reads {_FORMAT}")
            tensors = {
                name: TensorStatistics(stored["region"], stored["readers"], Histogram.from_json(stored))
                for name, stored in document["tensors"].items()
            }
            return cls(
                document["graph_sha256"],
                tensors,
                document["smoothing_sha256"],
                document["smoothing_scales"],
                document["smoothing_strengths"],
                document["pictures_sha256"],
                document["broken"],
            )
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise CalibrationError(
                f"'{path}' holds no calibration statistics ({type(error).__name__}: {str(error)[:120]})",
                allowed="the calibration.json of an INT8 bundle, or what an interrupted laco-calibrate left",
            ) from None

    def require_same(self, graph: str, path: Path | str) -> None:
        """Raise :class:`CalibrationError` unless these are of the graph with hash ``graph``."""
        if self.graph != graph:
            raise CalibrationError(
                f"the statistics in '{path}' are of another graph",
                given=f"graph {self.graph[:16]}…",
                allowed=f"graph {graph[:16]}…, this bundle's",
                todo="calibrate this bundle on the pictures, or name the bundle that the statistics were taken from",
            )

    def ranges(self, method: str | Mapping[str, str]) -> dict[str, tuple[float, float]]:
        """Linear inputs → the range that is kept.

        Args:
            method: a name of :data:`~.thresholds.METHODS` for all of them, or block → the method for what it reads.
        """
        chosen = lambda seen: method if isinstance(method, str) else method[block_of(seen.readers[0])]
        return {name: clip_range(seen.histogram, chosen(seen)) for name, seen in self.tensors.items() if seen.readers}


def scales_digest(scales: Mapping[str, Sequence[float]]) -> str | None:
    """SHA-256 over folded scales; None where there are none."""
    if not scales:
        return None
    text = json.dumps({name: list(map(float, values)) for name, values in sorted(scales.items())})
    return hashlib.sha256(text.encode()).hexdigest()


def merge(parts: Sequence[Statistics]) -> Statistics:
    """One that has seen what all of ``parts`` have.

    Raises:
        CalibrationError: they are of different graphs, were taken under different smoothing, or share a picture (whose
            counts cannot be taken out again).
    """
    first = parts[0]
    merged = Statistics(
        first.graph,
        {name: TensorStatistics(seen.region, seen.readers) for name, seen in first.tensors.items()},
        first.smoothing,
        first.scales,
        first.strengths,
    )
    for part in parts:
        if (
            part.graph != first.graph
            or part.smoothing != first.smoothing
            or part.tensors.keys() != first.tensors.keys()
        ):
            raise CalibrationError(
                "statistics of different graphs, smoothings or tensors (--attention) cannot be merged",
                given=f"graph {part.graph[:16]}…, smoothing {str(part.smoothing)[:16]}",
                allowed=f"graph {first.graph[:16]}…, smoothing {str(first.smoothing)[:16]}",
                todo="take the second with --smoothing-of the first, or both with --no-smoothing",
            )
        shared = set(merged.pictures) & set(part.pictures)
        if shared:
            raise CalibrationError(
                "the statistics share pictures, which would count twice",
                given=f"{len(shared)} pictures, the first {sorted(shared)[0][:16]}…",
            )
        merged.pictures += part.pictures
        merged.broken |= part.broken
        for name, seen in part.tensors.items():
            merged.tensors[name].histogram.merge(seen.histogram)
    return merged


@dataclass(frozen=True)
class Difference:
    """One tensor in two calibrations.

    Attributes:
        readers: the Linear layers that read it.
        ratio: the second's range over the first's, by the method asked for.
        distance: total variation between the two distributions, 0 (equal) to 1 (disjoint).
    """

    name: str
    region: str
    readers: tuple[str, ...]
    ratio: float
    distance: float


def compare(first: Statistics, second: Statistics, method: str) -> list[Difference]:
    """Tensor by tensor (those that both have: --attention watches more), the most different first.

    Raises:
        CalibrationError: they are of different graphs or smoothings, or one has seen nothing yet.
    """
    if (first.graph, first.smoothing) != (second.graph, second.smoothing):
        raise CalibrationError(
            "statistics of different graphs or smoothings cannot be compared",
            given=f"graph {second.graph[:16]}…, smoothing {str(second.smoothing)[:16]}",
            allowed=f"graph {first.graph[:16]}…, smoothing {str(first.smoothing)[:16]}",
        )
    if not (first.pictures and second.pictures):
        raise CalibrationError(
            "there is nothing to compare: one of the calibrations has not seen a picture",
            given=f"{len(first.pictures)} and {len(second.pictures)} pictures",
        )
    differences = []
    for name, tensor in first.tensors.items():
        if name not in second.tensors:
            continue
        histograms = tensor.histogram, second.tensors[name].histogram
        ranges = [METHODS[method].threshold(histogram) for histogram in histograms]
        ratio = ranges[1] / ranges[0] if ranges[0] else float("inf") if ranges[1] else 1.0
        distance = _total_variation(*histograms)
        differences.append(Difference(name, tensor.region, tuple(tensor.readers), ratio, distance))
    return sorted(differences, key=lambda difference: -difference.distance)


def _total_variation(first: Histogram, second: Histogram) -> float:
    both = []
    for histogram, other in ((first, second), (second, first)):
        widened = Histogram()
        widened.merge(histogram)
        widened._grow_to(max(histogram.exponent, other.exponent))
        both.append(widened.counts / max(1, widened.total))
    return float(np.abs(both[0] - both[1]).sum() / 2)
