"""What an export is asked to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from ..depth import Depth
from ..errors import UsageError

PRECISIONS = ("fp16", "fp32")
OPSETS = (18, 19, 20)
"""18 is the oldest that torch's exporter writes without conversion, 20 the newest that TensorRT 10.3 reads."""


@dataclass(frozen=True)
class ExportOptions:
    """Validated when made.

    Attributes:
        model: the checkpoint's folder.
        at: the depth of the merge (``--at``); None takes the checkpoint's first.
        precision: of the vision graph, one of :data:`PRECISIONS`. FP16 is the default: it is what devices run, and
            it is proven against FP32 before it is handed out.
        output: the bundle's folder (``--output``); None names it after checkpoint, depth and precision.
        force: replace ``output`` where it stands, once the new bundle is complete.
        images: pictures to measure and compare on (``--images``); empty draws some.
        llm: write the decoder too (``--no-llm`` turns it off).
        compile: build the graph with TensorRT where one is installed (``--no-compile`` turns it off).
        opset: of the vision graph, one of :data:`OPSETS`.
    """

    model: Path
    at: str | None = None
    precision: str = "fp16"
    output: Path | None = None
    force: bool = False
    images: list[Path] = field(default_factory=list)
    llm: bool = True
    compile: bool = True
    opset: int = 20

    def __post_init__(self) -> None:
        if self.at is not None:
            Depth.parse(self.at)
        if self.precision not in PRECISIONS:
            raise UsageError("the precision is unknown", given=self.precision, allowed=", ".join(PRECISIONS))
        if self.opset not in OPSETS:
            raise UsageError("--opset is not supported", given=self.opset, allowed=", ".join(map(str, OPSETS)))

    def output_for(self, depth: str | None) -> Path:
        """``output``, or ``./<checkpoint>-at1_2-fp16`` (``-full-`` where nothing is merged)."""
        if self.output is not None:
            return self.output
        where = "full" if depth is None else f"at{Depth.parse(depth).slug}"
        return Path(f"{self.model.resolve().name}-{where}-{self.precision}")
