"""What progress shows of an optimiser step, beside how many there are."""

from __future__ import annotations

from collections.abc import Collection


def step_note(loss: float, learning_rates: Collection[float]) -> str:
    """``loss 2.345, learning rate 0.001``; of several groups' rates the lowest and the highest."""
    lowest, highest = min(learning_rates), max(learning_rates)
    rates = f"rate {highest:.2g}" if lowest == highest else f"rates {lowest:.2g} to {highest:.2g}"
    return f"loss {loss:.3f}, learning {rates}"
