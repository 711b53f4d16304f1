"""What an export is asked to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ..carried_depths import UNMERGED
from ..compression import ALL_DEPTHS, asked_depths
from ..errors import UsageError
from ..merge_path import DepthPath
from .decoder.precision import DECODER_PRECISIONS, MAX_KL
from .decoder.user_texts import read_user_text
from .decoder.vocabulary_request import VocabularyRequest
from .targets import DEFAULT_TARGET, TARGETS, Target


@dataclass(frozen=True)
class ExportOptions:
    """Validated when made.

    Attributes:
        model: the checkpoint's folder.
        at: the depth of the merge, or of the merges of a path (``--at 1/4+3/4``); several depths, the first of which is
            what the bundle is used at where none is named, or ``all``, make a bundle of several. None takes the
            checkpoint's first.
        target: who will read the vision graph (``--target``), a name of :data:`~.targets.TARGETS`.
        precision: of the vision graph; None takes the target's default. That is FP16 for TensorRT: it is what devices
            run, and it is proven against FP32 before it is handed out.
        batches: batch sizes of the vision graph (``--batch``), one file each over the one weight file. 1 is always
            among them: it is the graph that is compared block by block.
        output: the bundle's folder (``--output``); None names it after checkpoint, depth and precision.
        force: replace the bundle that stands at ``output``, once the new one is complete.
        images: pictures to measure and compare on (``--images``); empty draws some.
        llm: the decoder's precision, a name of :data:`DECODER_PRECISIONS`; None or False leaves the decoder out.
        llm_texts: the user's texts (``--llm-texts``), which an INT4 decoder is rounded over and every narrow one judged
            on; empty takes the package's own.
        vocabulary: texts like what the language model will write, or a list of tokens (``--vocabulary``): its head
            keeps the rows of those tokens and of what every answer needs; empty keeps all.
        vocabulary_size: how many tokens it keeps (``--vocabulary-size``); None for as many as are asked for.
        max_kl: nats a token in the mean that a narrow decoder may cost (``--max-kl``); None takes the default.
        compile: build the graph with TensorRT where one is installed (``--no-compile`` turns it off).
        bisect: write every block's errors beside ``output`` and name the first that drifts (``--bisect``).
        opset: of the vision graph; None takes the newest that the target reads.
    """

    model: Path
    at: str | Sequence[str] | None = None
    target: str = DEFAULT_TARGET
    precision: str | None = None
    batches: tuple[int, ...] = (1,)
    output: Path | None = None
    force: bool = False
    images: list[Path] = field(default_factory=list)
    llm: str | None = "fp32"
    llm_texts: list[Path] = field(default_factory=list)
    vocabulary: list[Path] = field(default_factory=list)
    vocabulary_size: int | None = None
    max_kl: float | None = None
    compile: bool = True
    bisect: bool = False
    opset: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "at", asked_depths(self.at))
        if self.target not in TARGETS:
            raise UsageError("--target is unknown", given=self.target, allowed=", ".join(TARGETS))
        if self.llm and self.llm not in DECODER_PRECISIONS:
            raise UsageError("--llm is unknown", given=self.llm, allowed=", ".join(DECODER_PRECISIONS))
        for option, value in (
            ("--llm-texts", self.llm_texts),
            ("--vocabulary", self.vocabulary),
            ("--max-kl", self.max_kl),
        ):
            if value and not self.llm:
                raise UsageError(
                    f"{option} is about the language model, which --no-llm leaves out",
                    allowed="--llm fp32, fp16, int8 or int4 with it",
                )
        if self.llm and self.max_kl is None:
            object.__setattr__(self, "max_kl", MAX_KL)
        for path in self.llm_texts:
            read_user_text(path)  # refused now, and not after minutes
        self.vocabulary_request()
        if self.max_kl is not None and not self.max_kl > 0:
            raise UsageError("--max-kl takes nats a token, more than 0", given=self.max_kl, allowed=f"as {MAX_KL}")
        target = self.reader
        if self.precision is None:
            object.__setattr__(self, "precision", target.precisions[0])
        if self.precision not in target.precisions:
            raise UsageError(
                f"target {target.name} does not take this precision",
                given=self.precision,
                allowed=", ".join(target.precisions),
            )
        if self.opset is None:
            object.__setattr__(self, "opset", target.opsets[-1])
        if self.opset not in target.opsets:
            raise UsageError(
                f"--opset is not supported for target {target.name}",
                given=self.opset,
                allowed=", ".join(map(str, target.opsets)),
            )
        if not self.batches or any(not isinstance(batch, int) or batch < 1 for batch in self.batches):
            raise UsageError("--batch takes whole numbers of at least 1", given=list(self.batches))
        object.__setattr__(self, "batches", tuple(sorted({1, *self.batches})))

    def vocabulary_request(self) -> VocabularyRequest | None:
        """What is asked of a reduced vocabulary; None for the whole one.

        Raises:
            UsageError: a file of it cannot be used, or a size is given without one.
        """
        if self.vocabulary:
            return VocabularyRequest.read(self.vocabulary, self.vocabulary_size)
        if self.vocabulary_size is not None:
            raise UsageError(
                "--vocabulary-size is of a vocabulary that is chosen from texts",
                given=self.vocabulary_size,
                todo="give texts like what the language model will write, with --vocabulary",
            )
        return None

    @property
    def reader(self) -> Target:
        """The entry of :data:`~.targets.TARGETS` that ``target`` names."""
        return TARGETS[self.target]

    def output_for(self, *depths: str) -> Path:
        """``output``, or ``./<checkpoint>-at1_2-fp16`` (``-full-`` where nothing is merged, ``-at1_2-1_4-`` of several
        depths and ``-all-`` of all; ``-ort-cpu`` at the end for another target than the default)."""
        if self.output is not None:
            return self.output
        where = f"at{'-'.join(DepthPath.parse(depth).slug for depth in depths)}" if depths else UNMERGED
        if len(depths) > 1 and self.at == (ALL_DEPTHS,):
            where = ALL_DEPTHS
        reader = "" if self.target == DEFAULT_TARGET else f"-{self.target}"
        return Path(f"{self.model.resolve().name}-{where}-{self.precision}{reader}")
