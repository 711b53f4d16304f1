"""Models that pictures can sway, from the engines' fixtures."""

from ..engines.fixtures import answering_model, tiled_model  # noqa: F401 - fixtures
