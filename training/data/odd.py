"""Samples that are odd and used: what is mended about them is counted by cause and logged.

::

    {"index": 4712, "id": "coco-13", "file": "llava_558k.json", "causes": ["answer first"]}

One line for each in ``odd-samples.jsonl``. What is done about each cause is :mod:`.mending`'s.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from .sample_logs import append_lines, logged_samples


@dataclass(frozen=True)
class OddSample:
    """Which sample it is, and what was odd about it.

    Attributes:
        index, id, file: as :class:`~.broken.BrokenSample`'s.
        causes: of :data:`~.causes.ODDITIES`, sorted.
    """

    index: int
    id: str
    file: str
    causes: Sequence[str]


class OddSamples:
    """Names a run's odd samples in a log, and counts them.

    Args:
        log: the file that names them; what stands in it counts.
    """

    def __init__(self, log: Path):
        self.log = log

    def record(self, samples: Sequence[OddSample]) -> None:
        """Take those of a batch."""
        if samples:
            append_lines(self.log, [asdict(sample) for sample in samples])

    def by_cause(self) -> Counter[str]:
        """How many samples are odd for each cause; one that is odd twice counts for both."""
        return Counter(cause for sample in logged_samples(self.log) for cause in sample.get("causes", ()))


def counted_words(counts: Counter[str]) -> str:
    """``12 answer first, 3 Windows path``: the most frequent cause first."""
    return ", ".join(f"{count:,} {cause}" for cause, count in counts.most_common())
