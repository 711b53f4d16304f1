"""What progress shows of an optimiser step, beside how many there are."""

from __future__ import annotations

from collections.abc import Collection


def step_note(loss: float, learning_rates: Collection[float], worth: float | None = None) -> str:
    """``loss 2.345, picture worth 0.41 nats, learning rate 0.001``; of several rates the lowest and the highest.

    Args:
        worth: of the last look (:mod:`.look`), in nats a token.
    """
    lowest, highest = min(learning_rates), max(learning_rates)
    rates = f"rate {highest:.2g}" if lowest == highest else f"rates {lowest:.2g} to {highest:.2g}"
    picture = "" if worth is None else f"picture worth {worth:.2f} nats, "
    return f"loss {loss:.3f}, {picture}learning {rates}"
