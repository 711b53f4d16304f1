"""A training recipe as frozen dataclasses, checked where they are made; an error names the YAML key.

:mod:`.recipe_files` reads them from YAML and writes them back.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from math import ceil, inf, sqrt

from laco_export.errors import ConfigError, UsageError, check_whole
from laco_export.merge_path import DepthPath, Ratio, ratios_of_paths, shortest_ratio
from laco_export.tiling import Tiling

from . import processes
from .data.llava_next import LIKE_LLAVA_NEXT
from .distillation.recipe import DistillationRecipe
from .tiny.recipe import TinyStart

STAGES = ("1", "1.5", "2-si", "2-ov")  # LLaVA-OneVision's, in the order in which they are trained
DISTIL = "distil"
EVERY_STAGE = (DISTIL, *STAGES)
GROUPS = ("encoder", "compressor", "projector", "language_model")
MOST_SEED = 2**31 - 1  # NumPy takes 32 bits, and each stage's seed lies a little above the run's
PRECISIONS = ("fp32", "bf16")
OPTIMIZERS = ("adamw", "muon")
GROUPINGS = ("length", "none")
PROJECTOR_STARTS = ("default", "text_rms", "captions")
MERGE_STARTS = ("default", "average")
_FORWARD = 8  # samples of a forward pass at most, where a recipe does not say
_FAR = 4  # times another batch than the learning rates were made for: the rates would double or halve


def _machine(default):
    """A key that says how a machine computes the stage, and not what: a resumed run may change it."""
    return field(default=default, metadata={"machine": True})


@dataclass(frozen=True)
class TilingRecipe:
    """Which tile grids a single picture may take; the tile's side is the encoder's input.

    Attributes:
        max_rows, max_columns, max_tiles, grids: see :class:`~laco_export.tiling.Tiling`.
    """

    max_rows: int = 6
    max_columns: int = 6
    max_tiles: int = 9
    grids: Sequence[Sequence[int]] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "grids", Tiling.from_mapping(self.for_tile(1)).grids)

    def for_tile(self, tile: int) -> dict:
        """The ``tiling`` field of a model whose encoder sees ``tile`` x ``tile`` pixels."""
        return {"tile": tile, **asdict(self)}


@dataclass(frozen=True)
class StageRecipe:
    """One stage.

    Attributes:
        data: LLaVA JSON or JSON lines, a mixture YAML, or parquet; relative to the recipe's data folder.
        images: folder, zip or tar of the pictures, relative to the data folder (default: the data file's folder).
        learning_rates: peak learning rate of each group that the stage trains; the others are frozen.
        plain: stage 1's form: no chat template, the caption follows the picture and alone counts for the loss.
        tiling: tile grids of single pictures ("anyres"); None: every picture is one tile.
        max_frames: frames taken of a video.
        max_length: tokens of a sample, image tokens included; a longer one is cut at its end.
        epochs: passes over the data; may be a fraction.
        max_steps: optimiser steps in place of ``epochs``.
        global_batch_size: samples per optimiser step, over all processes and accumulated forward passes.
        per_device_batch_size: samples of one forward pass of one process; the accumulation follows from it. None: the
            most up to 8 that divides a process's share of ``global_batch_size``.
        warmup_ratio: share of the steps in which the learning rates rise from zero.
        min_learning_rate: where the cosine of every group ends (the paper: 1e-7).
        optimizer: adamw, or muon (see :mod:`.optimizers`).
        weight_decay, max_grad_norm: as in HF TrainingArguments; vectors (biases, norms) do not decay.
        precision: fp32, or bf16 (autocast over FP32 weights).
        group_by: length: batches of one kind and of like lengths; none: a plain shuffle.
        packed: the samples of a forward pass stand in one row without padding, each blind to the others.
        max_broken: broken samples that are skipped before the run stops: a number, or a share below 1.
        streaming, shuffle_buffer: parquet read as it comes, shuffled within so many rows.
        gradient_checkpointing: forget activations and compute them again: less memory, a third more time.
        save_every: optimiser steps between checkpoints to resume from; 0 saves at the stage's end only.
        workers: processes that read pictures ahead; 0 reads them in the training process.
        look_every: optimiser steps between two measurements of what a picture is worth (:mod:`.look`); 0: none.
        keep_frozen_outputs: compute what frozen blocks give of a picture once and keep it on disk
            (:mod:`.frozen_outputs`); for stages that freeze the encoder and see their pictures more than once.
        rates_for_batch: the global batch that the learning rates were made for, where that is another one; a plan says
            what they would be for this one.
        like: llava-next prepares samples as LLaVA-NeXT does (:mod:`.data.llava_next`); a recipe's own ``like`` is every
            stage's.
        distillation: of the stage ``distil`` alone, whose ``data`` are pictures: a folder, zip, tar or parquet, or
            conversations whose pictures are taken.
    """

    data: str
    learning_rates: Mapping[str, float]
    images: str | None = None
    plain: bool = False
    tiling: TilingRecipe | None = None
    max_frames: int = 32
    max_length: int = 32768
    epochs: float = 1.0
    max_steps: int | None = None
    global_batch_size: int = 512
    per_device_batch_size: int | None = _machine(None)
    warmup_ratio: float = 0.03
    min_learning_rate: float = 1e-7
    optimizer: str = "adamw"
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    precision: str = "bf16"
    group_by: str = "length"
    packed: bool = False
    max_broken: float = 0.0
    streaming: bool = False
    shuffle_buffer: int = 1000
    gradient_checkpointing: bool = _machine(False)
    save_every: int = _machine(0)
    workers: int = _machine(0)
    look_every: int = _machine(50)
    keep_frozen_outputs: bool = _machine(False)
    rates_for_batch: int | None = _machine(None)
    like: str | None = None
    distillation: DistillationRecipe | None = None

    def __post_init__(self) -> None:
        self._check_learning_rates()
        if self.distillation is not None:
            self.distillation.check_stage_keys(self)
        check_whole("global_batch_size", self.global_batch_size)
        if self.per_device_batch_size is None:
            object.__setattr__(self, "per_device_batch_size", self._fitting_forward())
        for name in ("per_device_batch_size", "max_length", "max_frames", "shuffle_buffer"):
            check_whole(name, getattr(self, name))
        for name in ("rates_for_batch", "max_steps"):
            if getattr(self, name) is not None:
                check_whole(name, getattr(self, name))
        if self.keep_frozen_outputs and "encoder" in self.learning_rates:
            raise ConfigError(
                "keep_frozen_outputs and a trained encoder exclude each other",
                given="learning_rates.encoder",
                todo="leave encoder out of learning_rates, or set keep_frozen_outputs: false",
            )
        for name in ("save_every", "workers", "look_every"):
            check_whole(name, getattr(self, name), least=0)
        if not self.max_grad_norm > 0:  # .inf: gradients are not cut
            raise ConfigError("max_grad_norm must be above 0", given=self.max_grad_norm)
        if not 0 < self.epochs < inf:
            raise ConfigError("epochs must be above 0 and finite", given=self.epochs)
        for name in ("weight_decay", "max_broken", "min_learning_rate"):
            if not 0 <= getattr(self, name) < inf:
                raise ConfigError(f"{name} must be at least 0 and finite", given=getattr(self, name))
        if not 0 <= self.warmup_ratio < 1:
            raise ConfigError("warmup_ratio must lie in [0, 1)", given=self.warmup_ratio)
        choices = (("precision", PRECISIONS), ("optimizer", OPTIMIZERS), ("group_by", GROUPINGS))
        for name, allowed in choices:
            if getattr(self, name) not in allowed:
                raise ConfigError(f"{name} is unknown", given=getattr(self, name), allowed=", ".join(allowed))
        if self.like not in (None, LIKE_LLAVA_NEXT):
            raise ConfigError("like is unknown", given=self.like, allowed=LIKE_LLAVA_NEXT)
        if self.plain and self.tiling:
            raise ConfigError(
                "tiling and plain exclude each other", todo="leave tiling out: a caption follows one tile"
            )
        if self.global_batch_size % self.per_device_batch_size:
            raise self._indivisible(1)

    def _fitting_forward(self) -> int:
        """The most samples, up to :data:`_FORWARD`, that divide one process's share of a batch."""
        share, rest = divmod(self.global_batch_size, processes.stated_count())
        samples = self.global_batch_size if rest else share  # another number of processes is asked for later
        return max(size for size in range(1, min(_FORWARD, samples) + 1) if samples % size == 0)

    def _check_learning_rates(self) -> None:
        unknown = sorted(set(self.learning_rates) - set(GROUPS))
        if unknown or not self.learning_rates:
            raise ConfigError(
                "learning_rates names parameter groups that do not exist" if unknown else "learning_rates is empty",
                given=", ".join(unknown) or None,
                allowed=", ".join(GROUPS),
                todo=nearest(unknown[0], GROUPS) if unknown else None,
            )
        for name, rate in self.learning_rates.items():
            if not 0 < rate < inf:
                raise ConfigError(
                    f"learning_rates.{name} must be above 0 and finite", given=rate, todo="leave a frozen group out"
                )
            if rate < self.min_learning_rate:
                raise ConfigError(
                    f"learning_rates.{name} lies below min_learning_rate", given=f"{rate} < {self.min_learning_rate}"
                )

    def fitting_rates(self) -> dict[str, float]:
        """The learning rates for this batch, where they were made for one at least four times larger or smaller.

        Adaptive optimisers keep their dynamics where the rate goes with the square root of the batch (Malladi et al.,
        "On the SDEs and Scaling Rules for Adaptive Gradient Algorithms", 2022).
        """
        ratio = self.global_batch_size / (self.rates_for_batch or self.global_batch_size)
        if 1 / _FAR < ratio < _FAR:
            return {}
        rates = {name: float(f"{rate * sqrt(ratio):.2g}") for name, rate in self.learning_rates.items()}
        return {name: max(rate, self.min_learning_rate) for name, rate in rates.items()}

    def accumulation(self, processes: int) -> int:
        """Forward passes of each process per optimiser step.

        Raises:
            ConfigError: the processes' forward passes do not add up to the global batch.
        """
        if self.global_batch_size % (self.per_device_batch_size * processes):
            raise self._indivisible(processes)
        return self.global_batch_size // (self.per_device_batch_size * processes)

    def _indivisible(self, processes: int) -> ConfigError:
        shares = self.global_batch_size // processes if self.global_batch_size % processes == 0 else 0
        sizes = [size for size in range(1, min(shares, 64) + 1) if shares % size == 0]
        allowed = f"per_device_batch_size {', '.join(map(str, sizes))}" if sizes else "another number of processes"
        return ConfigError(
            "global_batch_size is no multiple of per_device_batch_size times the number of processes",
            given=f"{self.global_batch_size}, and {self.per_device_batch_size} x {processes}",
            allowed=allowed,
            todo="set per_device_batch_size or global_batch_size, or start another number of processes",
        )

    def steps(self, samples: int) -> int:
        """Optimiser steps over ``samples`` samples, for any number of processes.

        Each pass takes whole global batches; the rest of a pass (fewer than ``global_batch_size`` samples, others in
        each pass) is left out.

        Raises:
            ConfigError: fewer samples than one global batch.
        """
        if samples < self.global_batch_size:
            raise ConfigError(
                "data does not fill one global_batch_size",
                given=f"{samples:,} samples, global_batch_size {self.global_batch_size}",
                todo="give more data or a smaller global_batch_size",
            )
        if self.max_steps is not None:
            return self.max_steps
        per_pass = samples // self.global_batch_size
        return max(1, ceil(round(per_pass * self.epochs, 6)))  # rounded first: 30 · 0.1 is not 4 steps


@dataclass(frozen=True)
class CompressionRecipe:
    """Where and how the encoder's tokens are merged; see :class:`~laco_export.models.configuration.CompressionConfig`.

    Attributes:
        method: name of a compressor; null keeps all tokens (LLaVA-OneVision itself).
        at: the merge's depth (1/4, 1, block:7), or those of a path of merges (1/4+3/4); several train an elastic
            checkpoint, one of them drawn at each step.
        ratio: r: each r x r window becomes one token; 2+3 of the merges of a path, a list of one for each path.
        mlp_hidden_size: of the Patch Merge Layer; null takes the encoder's width.
        merge_before_final_norm: where the merge at depth 1 stands.
    """

    method: str | None = "laco"
    at: Sequence[str] = ("1/2",)
    ratio: Ratio | Sequence[Ratio] = 2
    mlp_hidden_size: int | None = None
    merge_before_final_norm: bool = False

    def __post_init__(self) -> None:
        depths = (self.at,) if isinstance(self.at, (str, int, float)) else self.at
        paths = [DepthPath.parse(depth) for depth in depths]
        object.__setattr__(self, "at", tuple(map(str, paths)))
        if not self.at:
            raise ConfigError("at is empty", allowed="a depth such as 1/2, or a list of depths")
        ratios = ratios_of_paths(self.ratio, [len(path.depths) for path in paths], field="ratio")
        object.__setattr__(self, "ratio", shortest_ratio(ratios))

    def options(self) -> dict:
        """Keyword arguments of ``LacoForConditionalGeneration.from_parts``."""
        return asdict(self)


@dataclass(frozen=True)
class ModelRecipe:
    """What stage 1 starts from.

    Attributes:
        encoder, language_model: folders of pretrained parts; both left out where the recipe makes its own (``tiny``) or
            starts from a checkpoint.
        checkpoint: a LaCo checkpoint in place of the two. With compression off it gets the recipe's merges, which begin
            as averages (:func:`~laco_export.models.merging.merge_inside`), and is the teacher of the stage ``distil``;
            with merges it is taken as it is.
        feature_layer, video_pooling: see :class:`~laco_export.models.configuration.LacoConfig`.
        projector_start: default (PyTorch's, as LLaVA does); text_rms: scaled so that visual embeddings have the root
            mean square of the text's; captions: solved for the words of the first stage's answers
            (:mod:`.projector_start`).
        merge_start: default (PyTorch's); average: the merge begins as the average of its window
            (:func:`~laco_export.models.initialization.average_merges`).
    """

    encoder: str | None = None
    language_model: str | None = None
    checkpoint: str | None = None
    feature_layer: int | None = None
    video_pooling: int = 1
    projector_start: str = "default"
    merge_start: str = "default"

    def __post_init__(self) -> None:
        if (self.encoder is None) != (self.language_model is None):
            raise ConfigError("encoder and language_model go together", todo="give both folders")
        if self.checkpoint is not None:
            self._check_nothing_beside_checkpoint()
        check_whole("video_pooling", self.video_pooling)
        for key, allowed in (("projector_start", PROJECTOR_STARTS), ("merge_start", MERGE_STARTS)):
            if getattr(self, key) not in allowed:
                raise ConfigError(f"{key} is unknown", given=getattr(self, key), allowed=", ".join(allowed))

    def _check_nothing_beside_checkpoint(self) -> None:
        fresh = ModelRecipe()
        for name in ("encoder", "feature_layer", "video_pooling", "projector_start", "merge_start"):
            if getattr(self, name) != getattr(fresh, name):
                raise ConfigError(
                    f"checkpoint and {name} exclude each other",
                    given=getattr(self, name),
                    todo="a checkpoint has its parts: leave the other keys out",
                )

    def options(self) -> dict:
        """Keyword arguments of ``LacoForConditionalGeneration.from_parts``; the start is :func:`initialize`'s."""
        return {"feature_layer": self.feature_layer, "video_pooling": self.video_pooling}


@dataclass(frozen=True)
class Recipe:
    """A whole recipe.

    Attributes:
        name: for messages and ``training.json``.
        model: what stage 1 starts from.
        compression: the merge.
        stages: by stage name; those left out are not run.
        seed: of everything random, unless ``--seed`` is given.
        data_folder: where ``stages.*.data`` and the pictures lie; None where the recipe draws its own.
        tiny: present where the recipe draws its data and pretrains its own small parts (stage 0).
    """

    name: str
    model: ModelRecipe
    stages: Mapping[str, StageRecipe]
    compression: CompressionRecipe = field(default_factory=CompressionRecipe)
    seed: int = 0
    data_folder: str | None = None
    tiny: TinyStart | None = None

    def __post_init__(self) -> None:
        check_seed(self.seed)
        for name in self.stages:
            check_stage(name)
        if not self.stages:
            raise ConfigError("stages is empty", allowed=", ".join(EVERY_STAGE))
        own_parts = self.model.encoder is None and self.model.checkpoint is None
        if own_parts != (self.tiny is not None) or own_parts != (self.data_folder is None):
            raise ConfigError(
                "a recipe either names model.encoder, model.language_model (or model.checkpoint) and data_folder, or "
                "has a tiny section",
                given=f"encoder {self.model.encoder}, data_folder {self.data_folder}, tiny {self.tiny is not None}",
            )
        for name, stage in self.stages.items():
            if (name == DISTIL) != (stage.distillation is not None):
                raise ConfigError(f"stages.{name}: only the stage {DISTIL} has the key distillation, and it must")
        if DISTIL in self.stages and self.model.checkpoint is None:
            raise ConfigError(
                f"stages.{DISTIL} needs a teacher", allowed="model.checkpoint: a checkpoint with compression off"
            )

    def ordered_stages(self) -> list[tuple[str, StageRecipe]]:
        """The stages in training order."""
        return [(name, self.stages[name]) for name in EVERY_STAGE if name in self.stages]


def check_seed(seed: int) -> int:
    """The seed, where every library that draws from it takes it.

    Raises:
        ConfigError: it is negative or too large.
    """
    if not 0 <= seed <= MOST_SEED:
        raise ConfigError("the seed is out of range", given=seed, allowed=f"0 to {MOST_SEED}")
    return seed


def stage_seed(seed: int, stage: str) -> int:
    """What a stage draws its order by: each stage shuffles in its own way."""
    return seed + 1 + (*STAGES, DISTIL).index(stage)


def check_stage(name: str) -> str:
    """The stage's name, or an error that suggests the nearest.

    Raises:
        UsageError: there is no such stage.
    """
    if name not in EVERY_STAGE:
        raise UsageError(
            f"there is no stage '{name}'", allowed=", ".join(EVERY_STAGE), todo=nearest(str(name), EVERY_STAGE)
        )
    return name


def nearest(name: str, choices: Sequence[str]) -> str | None:
    """A question that suggests what was meant, where something is close enough."""
    match = get_close_matches(name, choices, n=1, cutoff=0.5)
    return f"did you mean '{match[0]}'?" if match else None
