"""What the tiny recipe makes before stage 1: its data, its encoder, its language model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from laco_export.atomic import new_directory

from .dataset import write_data
from .recipe import TinyStart

Make = Callable[[Callable[..., None]], list[float]]


def make_start(start: TinyStart, folder: Path, seed: int) -> list[tuple[str, Make, int]]:
    """The parts in order: the folder's name, the function that makes it and returns its losses, its progress steps."""
    data = folder / "data"

    def draw(advance: Callable[..., None]) -> list[float]:
        with new_directory(data) as partial:
            write_data(partial, start.data, seed=seed, advance=advance)
        return []

    def encoder(advance: Callable[..., None]) -> list[float]:
        from .encoder_pretraining import pretrain_encoder

        return pretrain_encoder(data, folder / "stage-0" / "encoder", start.encoder, seed=seed, advance=advance)

    def language_model(advance: Callable[..., None]) -> list[float]:
        from .language_pretraining import pretrain_language_model

        output = folder / "stage-0" / "llm"
        return pretrain_language_model(data, output, start.language_model, seed=seed, advance=advance)

    pictures = start.data.held_out + start.data.pages + start.data.pictures
    return [
        ("data", draw, pictures),
        ("stage-0/encoder", encoder, start.encoder.steps),
        ("stage-0/llm", language_model, start.language_model.steps),
    ]
