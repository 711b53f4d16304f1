"""What frozen blocks give of a picture, computed once and kept on the disk.

A stage that freezes the encoder trains the merge layer and what follows it; everything before the merge gives the same
in every pass over the data, and in every run over the same pictures with a merge at the same depth. Files are found by
content: by the weights of the blocks, by what is computed with them, and by the preprocessed pixels::

    FOLDER/<weights, blocks and precision>/<first two digits>/<pixels>.safetensors     hidden_states [P+N, C]

so that nothing has to be thrown away by hand when weights, pictures or preprocessing change. An entry appears complete
or not at all; one that cannot be read is computed again.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from laco_export.atomic import write_bytes
from laco_export.console import say
from laco_export.errors import ConfigError

from . import processes

if TYPE_CHECKING:
    from laco_export.models import LacoForConditionalGeneration
    from laco_export.models.vision import LacoVisionModel

_HIDDEN_STATES = "hidden_states"


class FrozenOutputs:
    """Stands in for :meth:`LacoVisionModel.before_merge`.

    Attributes:
        computed, read: pictures whose outputs were computed and read.

    Args:
        folder: of the entries; made when the first is written.
        weights: SHA-256 of the encoder's weights, see :func:`weights_digest`.
    """

    def __init__(self, folder: Path, weights: str):
        self.folder, self.weights = folder, weights
        self.computed = self.read = 0
        self._refused = False  # the disk took no more

    def __call__(self, vision_model: LacoVisionModel, pixel_values: Tensor) -> Tensor:
        """``[B, 3, H, W]`` -> ``[B, P+N, C]``, in the dtype and on the device that the blocks would give."""
        folder = self.folder / self._space(vision_model, pixel_values)
        files = [_entry(folder, pixels) for pixels in pixel_values]
        outputs = [_read(file) for file in files]
        missing = {file: place for place, (file, output) in enumerate(zip(files, outputs)) if output is None}
        self.read += len(files) - len(missing)
        if missing:
            places = list(missing.values())
            computed = self._compute(vision_model, pixel_values[places])
            self.computed += len(places)
            self._keep(dict(zip(missing, computed.cpu(), strict=True)))
            fresh = dict(zip(missing, computed, strict=True))
            outputs = [fresh[file] if output is None else output for file, output in zip(files, outputs)]
        return torch.stack([output.to(pixel_values.device) for output in outputs])

    @staticmethod
    @torch.no_grad()
    def _compute(vision_model: LacoVisionModel, pixel_values: Tensor) -> Tensor:
        """Without dropout: one draw of it would be kept for ever."""
        trains = vision_model.encoder.training
        vision_model.encoder.eval()
        try:
            return vision_model.before_merge(pixel_values)
        finally:
            vision_model.encoder.train(trains)

    def _keep(self, outputs: dict[Path, Tensor]) -> None:
        """Where the disk takes no more, the rest is computed each time."""
        if self._refused:
            return
        try:
            for file, output in outputs.items():
                file.parent.mkdir(parents=True, exist_ok=True)
                write_bytes(file, save({_HIDDEN_STATES: output.contiguous()}))
        except OSError as error:
            self._refused = True
            say(
                f"outputs of frozen blocks can no longer be kept in '{self.folder}' ({error.strerror}); those that are "
                "missing are computed in every pass from here on"
            )

    def _space(self, vision_model: LacoVisionModel, pixel_values: Tensor) -> str:
        """What entries depend on, the pixels apart."""
        kind = pixel_values.device.type
        precision = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else pixel_values.dtype
        last = vision_model.num_blocks if vision_model.block is None else vision_model.block
        norm = vision_model.final_norm if last == vision_model.num_blocks else None
        described = f"{self.weights} block {last} {norm} {vision_model.compression.merge_before_final_norm} {precision}"
        return hashlib.sha256(described.encode()).hexdigest()[:24]


def keep_frozen_outputs(model: LacoForConditionalGeneration, folder: Path) -> FrozenOutputs:
    """Let the vision model read the outputs of its frozen blocks from ``folder``, or put them there.

    Raises:
        ConfigError: blocks before the merge are trained, or sharded: a process that reads would not take part where
            another must gather weights to compute.
    """
    if any(parameter.requires_grad for parameter in model.vision_model.encoder.parameters()):
        raise ConfigError("keep_frozen_outputs needs a frozen encoder", todo="set keep_frozen_outputs: false")
    if processes.shards_weights():
        raise ConfigError(
            "keep_frozen_outputs does not go with FSDP or DeepSpeed, which may shard weights",
            todo="set keep_frozen_outputs: false, or launch with DDP (torchrun)",
        )
    keeper = FrozenOutputs(folder, weights_digest(model.vision_model))
    model.vision_model.keeper = keeper
    return keeper


def weights_digest(vision_model: LacoVisionModel) -> str:
    """SHA-256 of the encoder: its layers, its configuration, and its tensors by name, dtype and content."""
    encoder = vision_model.encoder
    digest = hashlib.sha256(f"{encoder} {encoder.config.to_json_string()}".encode())
    for name, tensor in sorted(encoder.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
    return digest.hexdigest()


def _entry(folder: Path, pixels: Tensor) -> Path:
    """The file of one picture ``[3, H, W]``."""
    content = pixels.detach().cpu().contiguous()
    name = hashlib.sha256(content.view(torch.uint8).numpy()).hexdigest()
    return folder / name[:2] / f"{name}.safetensors"


def _read(file: Path) -> Tensor | None:
    """``[P+N, C]``; None where there is no entry, or one that cannot be read."""
    try:
        with safe_open(file, framework="pt") as stored:
            return stored.get_tensor(_HIDDEN_STATES)
    except (OSError, SafetensorError):
        return None
