"""What is done to a model that reads: merged, healed without labels, trained on with labels, or trained anew.

The distillation is the stage's own: its losses and targets (``Distillation``), parameter groups, phases and schedule.
Pages are drawn as they are needed, and no page is seen twice.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from ordering.reader import BATCH, DrawPages, accuracy
from torch import nn

from laco_export.models import LacoForConditionalGeneration
from laco_export.models.merging import merge_inside
from laco_training.distillation.pair import Distillation
from laco_training.parameter_groups import optimizer_groups
from laco_training.schedule import cosine_schedule

from .compute import healing_operations, reading_operations, recipe_operations
from .models import TEACHERS, new_model, train_from_parts, train_on

DEPTHS = ("1", "1/2", "1/4")
SHARE, LONG_SHARE = 0.1, 0.5
"""Of the operations that trained the teacher from its parts: what healing may take at most, and a long one."""
RATES = {"compressor": 1e-2, "encoder": 5e-3}
"""Peak learning rates of the distillation, the best of four pairs on seed 9, which is no seed of the study."""
_MERGE_FIRST, _WARMUP, _FLOOR, _MAX_GRAD_NORM = 0.1, 0.03, 1e-7, 1.0
_HEALING = 20  # part of the drawing key
_POINTS = 4  # of a curve

KINDS = (
    "merged",
    "distilled",
    "distilled, long",
    "branch frozen",
    "branch frozen, long",
    "labelled",
    "ordinary, short",
    "ordinary",
)


@dataclass(frozen=True)
class Arm:
    """One way to a model that merges inside.

    Attributes:
        kind: of :data:`KINDS`. ``branch frozen`` is ``distilled`` whose merge stays an average; ``labelled`` trains the
            merged model on, by answers, for as many operations as ``distilled`` takes; ``ordinary`` is the recipe that
            trained the teacher, from the same parts with a fresh merge, and ``ordinary, short`` the same with the
            operations of ``distilled``. ``long`` ones have :data:`LONG_SHARE` of the teacher's operations.
        at: the merge's depth.
        teacher: of :data:`.models.TEACHERS`; empty where none is needed.
    """

    kind: str
    at: str
    teacher: str = ""

    @property
    def name(self) -> str:
        return f"{self.kind} @{self.at}" + (f" of {self.teacher}" if self.teacher else "")

    @property
    def share(self) -> float:
        """Of the teacher's operations, where it is healed."""
        return LONG_SHARE if self.kind.endswith(", long") else SHARE

    @property
    def heals(self) -> bool:
        return self.kind.startswith(("distilled", "branch frozen"))

    @property
    def file(self) -> str:
        return self.name.replace("/", "_").replace(" ", "-").replace(",", "")


def arms_of(task: str) -> list[Arm]:
    """Those of a task, in the order in which they are run."""
    if task == "arrangements":  # at 1 nothing is behind the merge that could be trained without its branch
        healed = [Arm(kind, at, "window") for at in DEPTHS[1:] for kind in KINDS[:5]]
        return [*healed, *(Arm("ordinary", at) for at in DEPTHS[1:])]
    healed = [Arm(kind, at, name) for name in TEACHERS for at in DEPTHS for kind in ("merged", "distilled", "labelled")]
    return [*healed, *(Arm(kind, at) for kind in ("ordinary, short", "ordinary") for at in DEPTHS)]


class Study:
    """What the arms of one task and seed start from.

    Args:
        parts: encoder and decoder.
        teachers: by their names, trained from the parts.
        steps: reading steps that each teacher took.
    """

    def __init__(
        self,
        parts: tuple[nn.Module, nn.Module],
        teachers: Mapping[str, LacoForConditionalGeneration],
        seed: int,
        steps: int,
        draw: DrawPages,
    ):
        self.parts, self.teachers, self.seed, self.steps, self.draw = parts, teachers, seed, steps, draw
        self._operations: dict[str, int] = {}  # counted once each

    def run(self, arm: Arm) -> dict:
        """Accuracy, operations, steps and curve of one arm."""
        if arm.heals:
            return self._distil(arm)
        if arm.kind == "merged":
            return self._merge(arm)
        return self._label(arm) if arm.kind == "labelled" else self._train(arm)

    def teacher_operations(self, name: str) -> int:
        """What training a teacher from the parts took."""
        new = lambda: new_model(*self.parts, self.seed, **TEACHERS[name])
        return self._counted(name, lambda: recipe_operations(new(), self.steps, self.draw))

    def _merge(self, arm: Arm) -> dict:
        return {"accuracy": self._accuracy(self._merged(arm)), "operations": 0, "steps": 0, "curve": []}

    def _distil(self, arm: Arm) -> dict:
        groups = {"encoder": RATES["encoder"]} if arm.kind.startswith("branch frozen") else dict(RATES)
        teacher = copy.deepcopy(self.teachers[arm.teacher])
        distillation = Distillation(teacher, merge_inside(teacher, arm.at), groups)
        cost = healing_operations(distillation, self.draw)
        steps = self._healing_steps(arm)
        curve = self._heal(distillation, groups, steps)
        return {
            "accuracy": curve[-1]["accuracy"],
            "operations": steps * cost,
            "steps": steps,
            "curve": [{**point, "operations": point["steps"] * cost} for point in curve],
        }

    def _heal(self, distillation: Distillation, rates: Mapping[str, float], steps: int) -> list[dict]:
        first = round(_MERGE_FIRST * steps) if "compressor" in rates else 0
        groups = [
            {**group, "first_step": 0 if group["name"] == "compressor" else first}
            for group in optimizer_groups(distillation.student, rates, 0.0)
            if group["params"]
        ]
        optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
        schedule = cosine_schedule(optimizer, total_steps=steps, warmup_ratio=_WARMUP, min_learning_rate=_FLOOR)
        curve = []
        for step in range(steps):
            distillation.hold_to_merge(step < first)
            pixels, _ = self.draw(BATCH, self.seed, _HEALING, step)
            values = distillation(pixels)
            values["loss"].backward()
            nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], _MAX_GRAD_NORM)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            if (step + 1) % -(-steps // _POINTS) == 0 or step + 1 == steps:
                measured = {name: values[name].item() for name in ("relative_error", "cosine")}
                curve.append({"steps": step + 1, "accuracy": self._accuracy(distillation.student), **measured})
        return curve

    def _label(self, arm: Arm) -> dict:
        model = self._merged(arm).train()
        cost = reading_operations(model, self.draw)
        steps = self._healing_operations(arm) // cost
        curve = train_on(model, self.seed, steps, self.draw, -(-steps // _POINTS), first=self.steps)
        return self._trained(curve, steps * cost, steps)

    def _train(self, arm: Arm) -> dict:
        model = new_model(*self.parts, self.seed, method="laco", at=arm.at)
        steps = self.steps
        if arm.kind == "ordinary, short":
            allowed = max(self._healing_operations(Arm("distilled", arm.at, teacher)) for teacher in TEACHERS)
            steps = int(allowed / (recipe_operations(model, 400, self.draw) / 400))
        cost = recipe_operations(model, steps, self.draw)
        curve = train_from_parts(model, self.seed, steps, self.draw, -(-steps // _POINTS))
        return self._trained(curve, cost, steps)

    def _trained(self, curve: list[dict], cost: int, steps: int) -> dict:
        with_cost = [{**point, "operations": cost * point["steps"] // steps} for point in curve]
        return {"accuracy": curve[-1]["accuracy"], "operations": cost, "steps": steps, "curve": with_cost}

    def _healing_steps(self, arm: Arm) -> int:
        """As many as the arm's share of the teacher's operations allows with the branch trained."""
        return int(arm.share * self.teacher_operations(arm.teacher) / self._healing_cost(arm))

    def _healing_operations(self, arm: Arm) -> int:
        return self._healing_steps(arm) * self._healing_cost(arm)

    def _healing_cost(self, arm: Arm) -> int:
        def count() -> int:
            teacher = copy.deepcopy(self.teachers[arm.teacher])
            return healing_operations(Distillation(teacher, merge_inside(teacher, arm.at), RATES), self.draw)

        return self._counted(f"{arm.at} of {arm.teacher}", count)

    def _counted(self, name: str, count: Callable[[], int]) -> int:
        if name not in self._operations:
            self._operations[name] = count()
        return self._operations[name]

    def _merged(self, arm: Arm) -> LacoForConditionalGeneration:
        return merge_inside(copy.deepcopy(self.teachers[arm.teacher]), arm.at)

    def _accuracy(self, model: LacoForConditionalGeneration) -> float:
        return accuracy(model, self.seed, draw=self.draw)
