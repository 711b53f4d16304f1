"""A student and its teacher as one module: what an optimiser step of the stage ``distil`` computes.

::

                        ┌─▶ block k+1 … L ─▶ norm ─▶ projector ─▶ features, pooled to the student's grid   the teacher
    pixels ─▶ block 1…k ┤                                                      │
                        └─▶ merge ─▶ block k+1 … L ─▶ norm ─▶ projector ─▶ features ─▶ losses              the student

Blocks 1 … k, before the shallowest merge, are the same frozen weights for both: they run once, and stand in memory
once. So does every other part that the stage leaves alone.
"""

from __future__ import annotations

import copy
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from laco_export.errors import ConfigError

from ..parameter_groups import set_trainable
from .losses import divergences, feature_errors, token_cosines
from .matching import check_pair, remaining_ratios
from .pooling import average_boundary, average_windows
from .predictions import Answers, answer_logits

if TYPE_CHECKING:
    from laco_export.models import LacoForConditionalGeneration
    from laco_export.models.projector import LacoProjector
    from laco_export.models.vision import BoundaryObserver, LacoVisionModel


@dataclass(frozen=True)
class LossWeights:
    """What the loss adds up.

    Attributes:
        features: of the relative error of the projected features.
        cosine: of 1 − their cosine.
        blocks: of the mean relative error of the blocks after the merge; 0 does not compute it.
        language_model: of the divergence of the next token's distribution, where answers are given; 0 does not hold
            the language model.
    """

    features: float = 1.0
    cosine: float = 1.0
    blocks: float = 0.0
    language_model: float = 0.0


class Targets(NamedTuple):
    """What the teacher gives of a batch; one pass serves every depth of the student.

    Attributes:
        shared: ``[B, P+N, C]``, the output of the last block that both have.
        features: ``[B, T, D]``, projected, on the teacher's own grid.
        boundaries: by name (``LacoVisionModel.boundary_names``) the hidden states ``[B, P+N, C]`` behind ``shared``;
            empty where no loss asks for them.
    """

    shared: Tensor
    features: Tensor
    boundaries: Mapping[str, Tensor]


class Teacher:
    """The frozen parts. No module: they are neither trained nor saved, and no process gathers them.

    Attributes:
        language_model: the student's where that is frozen too; None where no loss asks for it.
        grid: of the projected features.
        pack: the model's ``pack_image_features``; None without the language model.
    """

    def __init__(
        self,
        model: LacoForConditionalGeneration,
        vision_model: LacoVisionModel,
        projector: LacoProjector,
        language_model: nn.Module | None,
    ):
        self.vision_model = vision_model.eval().requires_grad_(False)
        self.projector = projector.eval().requires_grad_(False)
        self.language_model, self.grid = language_model, model.token_grid
        self.pack = model.pack_image_features if language_model is not None else None

    def to(self, device: torch.device) -> None:
        """Move all parts; those that the student shares have moved with it."""
        for part in self._parts:
            part.to(device)

    def parameters(self) -> Iterator[nn.Parameter]:
        """Those of all parts, shared ones too."""
        for part in self._parts:
            yield from part.parameters()

    @property
    def _parts(self) -> list[nn.Module]:
        parts = (self.vision_model, self.projector, self.language_model)
        return [part for part in parts if part is not None]


class Distillation(nn.Module):
    """A student that merges inside, and the model that it came from.

    Of the encoder, only what lies behind the shallowest merge can be trained. Where no loss asks for it, the language
    model is no part of this module, and may be on the meta device. ``state_dict`` holds what is trained, by the names
    of a checkpoint.

    Args:
        teacher: with compression off. Its tower and projector are used; tensors that the student leaves as they are
            are not copied, and what is left of the teacher can be let go.
        student: with merges, such as :func:`~laco_export.models.merging.merge_inside` makes of the teacher.
        groups: names of :data:`~laco_training.recipe.GROUPS` that are trained.

    Attributes:
        student: the model whose ``vision_model`` and ``projector`` these are.
        shared_blocks: k, how many blocks run once for both.

    Raises:
        ConfigError: the teacher merges inside, the student does not, or the two have different towers.
    """

    def __init__(
        self,
        teacher: LacoForConditionalGeneration,
        student: LacoForConditionalGeneration,
        groups: Collection[str],
        weights: LossWeights | None = None,
    ):
        super().__init__()
        check_pair(teacher, student)
        object.__setattr__(self, "student", student)  # not registered: its language model would be moved and saved
        self.vision_model, self.projector = student.vision_model, student.projector
        self.weights = weights or LossWeights()
        self.language_model = student.language_model if self.weights.language_model else None
        self.shared_blocks = min(path.blocks[0] for path in student.vision_model.compression.paths)
        student.requires_grad_(False)
        self._release(groups)
        self.teacher = self._separate(teacher)
        self._trained = {name: p for name, p in self.named_parameters() if p.requires_grad}
        trained = {id(parameter) for parameter in self._trained.values()}
        self._frozen_parts = [part for part in self.modules() if trained.isdisjoint(map(id, part.parameters()))]

    def forward(
        self,
        pixel_values: Tensor,
        input_ids: Tensor | None = None,
        labels: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_sizes: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """The losses of a batch at the depth that is set.

        Args:
            pixel_values: ``[B, 3, H, W]``, one tile a picture.
            input_ids, labels, attention_mask: ``[B, T]``, conversations with one picture each, for the loss on the
                language model's predictions, which is left out without them.
            image_sizes: ``[B, 2]``, as the processor gives it with these.

        Returns:
            scalars: ``loss``, and the means over the pictures that it is made of (``relative_error``, ``cosine``, and
            ``block_error`` and ``divergence`` where they are asked for).
        """
        targets, boundaries = self.targets(pixel_values), {}
        features = self.features(targets.shared, boundaries.__setitem__ if self.weights.blocks else None)
        values = self._compared(features, boundaries, targets)
        loss = self.weights.features * values["relative_error"] + self.weights.cosine * (1 - values["cosine"])
        if "block_error" in values:
            loss = loss + self.weights.blocks * values["block_error"]
        if self.language_model is not None and input_ids is not None:
            answers = Answers(input_ids, labels, attention_mask, self.student.config.image_token_id)
            values["divergence"] = self._divergence(answers, features, targets.features, image_sizes)
            loss = loss + self.weights.language_model * values["divergence"]
        return {"loss": loss, **values}

    @torch.no_grad()
    def targets(self, pixel_values: Tensor) -> Targets:
        """The teacher's pass."""
        boundaries: dict[str, Tensor] = {}
        observe = boundaries.__setitem__ if self.weights.blocks else None
        shared = self.vision_model.first_blocks(pixel_values, self.shared_blocks)
        vision = self.teacher.vision_model
        last = vision.until_merge(shared, self.shared_blocks, observe)
        features = self.teacher.projector(vision.from_merge(last), vision.merged_grid)
        return Targets(shared, features, boundaries)

    def _compared(self, features: Tensor, boundaries: Mapping[str, Tensor], targets: Targets) -> dict[str, Tensor]:
        expected = self.feature_targets(targets)
        values = {
            "relative_error": feature_errors(features, expected).mean(),
            "cosine": token_cosines(features, expected).mean(),
        }
        if errors := self._block_errors(boundaries, targets.boundaries):
            values["block_error"] = torch.stack(errors).mean()
        return values

    def _divergence(self, answers: Answers, student: Tensor, teacher: Tensor, image_sizes: Tensor) -> Tensor:
        """The mean over the samples of :func:`.losses.divergences` behind the features of each."""
        with torch.no_grad():
            expected = answer_logits(self.teacher.language_model, answers, self.teacher.pack(teacher, image_sizes))
        packed = self.student.pack_image_features(student, image_sizes)
        logits = answer_logits(self.language_model, answers, packed)
        return divergences(logits, expected, answers.rows, len(packed)).mean()

    def features(self, shared: Tensor, observe: BoundaryObserver | None = None) -> Tensor:
        """The student's projected features ``[B, T', D]`` at the depth that is set, from ``Targets.shared``."""
        vision = self.vision_model
        merged = vision.from_merge(vision.until_merge(shared, self.shared_blocks, observe), observe)
        return self.projector(merged, vision.merged_grid)

    def feature_targets(self, targets: Targets) -> Tensor:
        """The teacher's features ``[B, T', D]`` on the student's grid: its own where they are as many, else the means
        of the windows that the student's merges make one."""
        ratios = remaining_ratios(self.vision_model.path.ratios, self.teacher.projector.window)
        return average_windows(targets.features, self.teacher.grid, ratios)

    def hold_to_merge(self, alone: bool) -> None:
        """Let only the merges be trained from now on, or all that is trained."""
        merges = {id(parameter) for parameter in self.vision_model.compressors.parameters()}
        for parameter in self._trained.values():
            parameter.requires_grad_(not alone or id(parameter) in merges)

    def train(self, mode: bool = True) -> Distillation:
        """Parts without anything that is trained stay as in evaluation: no dropout in what both run."""
        super().train(mode)
        for part in self._frozen_parts:
            part.training = False
        return self

    def state_dict(self, *arguments, prefix: str = "", **options) -> dict[str, Tensor]:
        whole = super().state_dict(*arguments, prefix=prefix, **options)
        return {f"{prefix}{name}": whole[f"{prefix}{name}"] for name in self._trained}

    def load_state_dict(self, state_dict: Mapping[str, Tensor], strict: bool = True, assign: bool = False):
        """What :meth:`state_dict` gave.

        Raises:
            RuntimeError: other tensors.
        """
        if state_dict.keys() != self._trained.keys():
            raise RuntimeError("the tensors are not those that are trained here")
        unexpected = super().load_state_dict(state_dict, strict=False, assign=assign).unexpected_keys
        return nn.modules.module._IncompatibleKeys([], unexpected)

    def gradient_checkpointing_enable(self, gradient_checkpointing_kwargs: dict | None = None) -> None:
        """Forget the activations inside blocks, and compute them again."""
        for part in (self.vision_model.encoder, self.language_model):
            if part is not None:
                part.gradient_checkpointing_enable(gradient_checkpointing_kwargs)

    def _block_errors(self, student: Mapping[str, Tensor], teacher: Mapping[str, Tensor]) -> list[Tensor]:
        """The mean relative error of each block and norm behind the first merge."""
        vision, ratios = self.vision_model, self.vision_model.path.ratios
        passed, errors = 0, []
        for name, hidden_states in student.items():  # in the order in which they were computed
            passed += name.startswith("compressors.")
            if passed and name in teacher:
                pooled = average_boundary(teacher[name], vision.spec.prefix_tokens, vision.grid, ratios[:passed])
                errors.append(feature_errors(hidden_states, pooled).mean())
        return errors

    @property
    def _blocks(self) -> nn.ModuleList:
        return self.vision_model.encoder.get_submodule(self.vision_model.spec.blocks)

    def _release(self, groups: Collection[str]) -> None:
        """Let the groups be trained, of the encoder what lies behind the shallowest merge."""
        vision = self.vision_model
        set_trainable(self.student, set(groups) - {"encoder"})
        if "encoder" not in groups:
            return
        later = list(self._blocks[self.shared_blocks : vision.num_blocks])
        if vision.final_norm and (later or vision.compression.merge_before_final_norm):
            later.append(vision.encoder.get_submodule(vision.final_norm))
        for module in later:
            module.requires_grad_(True)

    def _separate(self, teacher: LacoForConditionalGeneration) -> Teacher:
        """The teacher's tower and projector with the student's own tensors wherever both will always be the same."""
        shared = self._shared_tensors()
        memo: dict[int, object] = {id(teacher.vision_model.spec): teacher.vision_model.spec}
        for name, tensor in tensors_of(teacher.vision_model.encoder):
            if name in shared and tensor is not shared[name] and not torch.equal(tensor, shared[name]):
                raise ConfigError(
                    "teacher and student have different towers before the merge",
                    given=f"another {name}",
                    allowed="a student that was made from this teacher: these blocks run once for both",
                )
            memo[id(tensor)] = shared.get(name, tensor)
        parts = [teacher.vision_model, teacher.projector, *([teacher.language_model] * self._trains_language_model)]
        for part in parts[1:]:
            memo |= {id(tensor): tensor for _, tensor in tensors_of(part)}
        for parameter in self.parameters():
            if parameter.requires_grad and id(parameter) in memo:  # it will move away from the teacher's
                memo[id(parameter)] = nn.Parameter(parameter.detach().clone(), requires_grad=False)
        copied = [copy.deepcopy(part, memo) for part in parts]
        if not self._trains_language_model:
            return Teacher(teacher, *copied, self.language_model)
        return Teacher(teacher, *copied[:2], copied[2].eval().requires_grad_(False))

    @property
    def _trains_language_model(self) -> bool:
        return self.language_model is not None and any(p.requires_grad for p in self.language_model.parameters())

    def _shared_tensors(self) -> dict[str, Tensor]:
        """The encoder's tensors that the student never changes and that run for both, by name."""
        vision = self.vision_model
        later = tuple(f"{vision.spec.blocks}.{i}." for i in range(self.shared_blocks, len(self._blocks)))
        norm = (f"{vision.spec.final_norm}.",) if vision.spec.final_norm else ()
        return {n: tensor for n, tensor in tensors_of(vision.encoder) if not n.startswith(later + norm)}


def tensors_of(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Parameters and buffers by name."""
    yield from module.named_parameters()
    yield from module.named_buffers()
