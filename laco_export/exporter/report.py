"""What the user is told when an export is done: a table for people, a document for machines."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from ..bundle import Manifest
from ..summary import bytes_by_part, show_summary, trial_lines


@dataclass(frozen=True)
class ExportReport:
    """A finished export.

    Attributes:
        manifest: as written, with the sizes of all files.
        seconds: step → seconds.
        compiled: one entry per graph that was built: builder, version, seconds, plan size.
        trial: what came of asking the finished bundle; None where it was not asked.
    """

    output: Path
    manifest: Manifest
    seconds: dict[str, float]
    compiled: list[dict]
    trial: dict | None = None

    def to_json(self) -> dict:
        """The ``--json`` document."""
        manifest = self.manifest
        depths = {} if not manifest.depths else {"depths": [asdict(further) for further in manifest.depths]}
        return {
            "output": str(self.output),
            "source": manifest.source,
            "encoder": manifest.encoder,
            "compression": manifest.compression,
            "vision": asdict(manifest.vision),
            "accuracy": manifest.accuracy,
            "decoder": None if manifest.decoder is None else asdict(manifest.decoder),
            "compiled": self.compiled,
            "notes": manifest.notes,
            "trial": self.trial,
            "seconds": self.seconds,
            "bytes": bytes_by_part(manifest),
            **depths,
        }

    def show(self, console) -> None:
        """Print the tables on a Rich console."""
        show_summary(self.manifest, console, title=str(self.output))
        if self.trial is not None:
            from rich.text import Text

            console.print("the bundle's answers to its golden questions")
            for line in trial_lines(self.trial):
                console.print(Text(f"  {line}"), soft_wrap=True)
