"""How quantised Linear layers are written into a graph: one file a recipe, one line in :data:`RECIPES`.

A recipe takes an FP32 graph (smoothed where that was chosen) and edits it in place. What is quantised, to which ranges
and in which number format comes from one calibration; only the form differs.
"""

from __future__ import annotations

from .cpu import CPU
from .placement import Placement, Recipe
from .tensorrt import TENSORRT

RECIPES: dict[str, Recipe] = {recipe.name: recipe for recipe in (TENSORRT, CPU)}

__all__ = ["RECIPES", "Placement", "Recipe"]
