"""What a benchmark found, as records: for the table, for ``--json``, for the picture."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

from laco_export import __version__

from ..cost.roofline import Floor
from ..devices.host_peaks import HostPeaks
from .plot import DepthPoint


@dataclass
class EncodeResult:
    """One bundle at one number of pictures.

    Attributes:
        depth: share of the encoder's blocks before the merge, or the first of several; 1 where nothing is merged.
        depths: of several merges the share before each; else empty.
        runs: graphs' batch sizes that one call runs; padded is the number of pictures that are thrown away of them.
        p50_ms, p95_ms: of a call, that is of all its pictures.
        kept, rejected: samples; a rejected one was stalled.
        floor: the least time by the device's roofline; None with ``floor_missing`` saying why.
        energy: by the board's sensors, where it has some.
    """

    bundle: str
    depth: float
    precision: str
    runtime: str
    batch: int
    runs: list[int]
    padded: int
    p50_ms: float
    p95_ms: float
    images_per_s: float
    kept: int
    rejected: int
    cpu_over_wall: float
    flops_per_image: float
    floor: Floor | None = None
    floor_missing: str | None = None
    energy: dict | None = None
    depths: list[float] = field(default_factory=list)

    @property
    def depth_label(self) -> str:
        """``0.50``; of several merges ``0.25+0.75``."""
        return "+".join(f"{depth:.2f}" for depth in self.depths or [self.depth])

    def to_dict(self) -> dict:
        left_out = {"floor"} if self.depths else {"floor", "depths"}
        document = {name: value for name, value in asdict(self).items() if name not in left_out}
        document["floor_ms"] = None if self.floor is None else self.floor.ms
        document["bound"] = None if self.floor is None else self.floor.bound
        document["times_floor"] = None if self.floor is None else self.p50_ms / self.floor.ms
        return document


@dataclass
class DecodeResult:
    """A bundle's language model: the medians over the kept samples; each had a picture that was not seen before."""

    bundle: str
    precision: str
    prompt_tokens: int
    first_token_ms: float
    first_token_p95_ms: float
    encode_ms: float
    prefill_ms: float
    decode_tokens_per_s: float | None
    kept: int
    rejected: int
    cpu_over_wall: float
    text_runtime: str


@dataclass
class BenchReport:
    """Everything that was measured, and on what.

    Attributes:
        machine, machine_after: clocks and power mode before the first sample and right after the last.
        memory: bundle → its own peak in a process that loads and runs nothing else, see :mod:`.process_memory`.
        passed_over: bundle → why each better runtime was not taken.
    """

    machine: dict
    summary: str
    options: dict
    libraries: dict[str, str] = field(default_factory=dict)
    machine_after: dict = field(default_factory=dict)
    encode: list[EncodeResult] = field(default_factory=list)
    decode: list[DecodeResult] = field(default_factory=list)
    memory: dict[str, dict] = field(default_factory=dict)
    passed_over: dict[str, list[str]] = field(default_factory=dict)
    host_peaks: HostPeaks | None = None
    notes: list[str] = field(default_factory=list)

    def to_dict(self) -> dict:
        """For ``--json``."""
        return {
            "tool": f"laco-export {__version__}",
            "libraries": self.libraries,
            "machine": self.machine,
            "machine_after": self.machine_after,
            "options": self.options,
            "encode": [result.to_dict() for result in self.encode],
            "decode": [asdict(result) for result in self.decode],
            "memory": self.memory,
            "passed_over": self.passed_over,
            "host_peaks": asdict(self.host_peaks) if self.host_peaks else None,
            "notes": self.notes,
        }

    def points(self) -> dict[str, list[DepthPoint]]:
        """For :func:`.plot.draw_by_depth`: a series for each runtime, precision, number of pictures and
        of merges."""
        series: dict[str, list[DepthPoint]] = {}
        for result in self.encode:
            name = f"{result.runtime.split()[0]} {result.precision}, batch {result.batch}"
            name += f", {len(result.depths)} merges" if result.depths else ""
            point = DepthPoint(result.depth, result.p50_ms / result.batch, result.flops_per_image)
            series.setdefault(name, []).append(point)
        return series
