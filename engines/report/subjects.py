"""What a report is about: each bundle at each of its depths, with a name for people."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from laco_export.bundle import Bundle
from laco_export.errors import BundleError, UsageError

from ..same_model import require_same_model


@dataclass(frozen=True)
class ReportSubject:
    """A bundle at one depth.

    Attributes:
        name: its folder's name, with the depth where the bundle has several, and a number where names are alike.
        bundle: at this depth alone; whole: with all of its depths.
    """

    name: str
    bundle: Bundle
    whole: Bundle

    @property
    def depth(self) -> str:
        """``1/2``, or ``none`` where nothing is merged."""
        return self.bundle.depths[0]


def subjects_of(bundles: Sequence[Bundle], depths: Sequence[str] = ()) -> list[ReportSubject]:
    """Every bundle at every depth, in the order given.

    Args:
        depths: of bundles that carry several these only; empty takes all.

    Raises:
        BundleError: bundles have no language model; all of them are named.
        DepthError: a bundle with several depths does not carry one of ``depths``.
        UsageError: two are of different models.
    """
    silent = [str(bundle.path) for bundle in bundles if bundle.manifest.decoder is None]
    if silent:
        raise BundleError(
            "bundles without a language model answer nothing that could be reported on",
            given=", ".join(silent),
            todo="export the checkpoint again without --no-llm; laco-engine bench measures their towers",
        )
    subjects = list(_named(bundles, depths))
    require_same_model({subject.name: subject.bundle for subject in subjects})
    return subjects


def _named(bundles: Sequence[Bundle], depths: Sequence[str]) -> Iterator[ReportSubject]:
    taken: set[str] = set()
    for bundle in bundles:
        folder, has_several = os.path.basename(os.path.abspath(bundle.path)), len(bundle.depths) > 1
        for depth in depths if depths and has_several else bundle.depths:
            view = bundle.at(depth)
            name = f"{folder} @{view.depths[0]}" if has_several else folder
            if name in taken:
                name = next(f"{name} ({number})" for number in count(2) if f"{name} ({number})" not in taken)
            taken.add(name)
            yield ReportSubject(name, view, bundle)


def place_of_reference(subjects: Sequence[ReportSubject], wanted: str | None) -> int:
    """Which subject the others are compared with: the first, or the one of this name or path.

    Raises:
        UsageError: none has it.
    """
    if wanted is None:
        return 0
    for place, subject in enumerate(subjects):
        if subject.name == wanted or subject.bundle.path.resolve() == Path(wanted).resolve():
            return place
    raise UsageError(
        f"--reference '{wanted}' is none of the report's bundles",
        allowed=", ".join(subject.name for subject in subjects),
    )
