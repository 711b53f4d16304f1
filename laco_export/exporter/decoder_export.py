"""The language model's two steps: written, then compared with PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..bundle import Decoder
from ..console import Steps
from ..quiet import quiet
from . import decoder
from .loaded_checkpoint import LoadedCheckpoint


@dataclass(frozen=True)
class DecoderExport:
    """A decoder that was written and compared.

    Attributes:
        entry: the manifest's record of it.
        accuracy: what :func:`~.decoder.verify_decoder` gives.
    """

    entry: Decoder
    accuracy: dict


def write_and_verify(loaded: LoadedCheckpoint, folder: Path, precision: str, steps: Steps) -> DecoderExport:
    """Write the checkpoint's language model into the bundle's ``folder`` and compare it with PyTorch.

    Args:
        precision: a name of :data:`~.decoder.DECODER_PRECISIONS`.

    Raises:
        ExportError: it is not supported, or it does not compute what PyTorch computes.
    """
    model = loaded.model
    with steps.step("export the language model") as advance, quiet():
        entry = decoder.export_decoder(
            model.language_model,
            image_token_id=model.config.image_token_id,
            eos_token_ids=loaded.eos_token_ids,
            output_folder=folder,
            precision=precision,
            generation_config=model.generation_config,
            advance=advance,
        )
    with steps.step("compare the language model with PyTorch"), quiet():
        return DecoderExport(entry, decoder.verify_decoder(model.language_model, folder, entry))
