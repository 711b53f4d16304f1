"""Checkpoints on disk: audited before anything is built from them.

A LaCo checkpoint is an ordinary Hugging Face folder: ``config.json``, ``model.safetensors`` (or shards with their
index), processor and tokenizer files, and ``checksums.json``. Pickled weights are refused: loading them runs code.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from .. import checksums, weight_files
from ..atomic import new_directory
from ..checkpoint_files import refuse_to_replace_non_checkpoint
from ..errors import CheckpointError, LacoError, telling_line
from ..stated_checkpoint import read_stated_checkpoint
from .configuration import LacoConfig
from .modeling import LacoForConditionalGeneration
from .processing import LacoProcessor
from .tensor_audit import TensorAudit
from .tower_weights import load_tower
from .transformers_versions import without_progress_bars


@dataclass(frozen=True)
class Checkpoint:
    """A loaded checkpoint.

    Attributes:
        path: its folder.
        model: in evaluation mode, FP32 unless asked otherwise.
        processor: tokenizer and image preprocessing.
        sha256: digest of its configuration and weights.
        checked: whether ``checksums.json`` was there to compare with.
    """

    path: Path
    model: LacoForConditionalGeneration
    processor: LacoProcessor
    sha256: str
    checked: bool

    def at_depth(self, depth: str) -> Checkpoint:
        """The same model with the merges of ``depth`` chosen, and a processor that makes as many image tokens.

        Raises:
            DepthError: the checkpoint carries no merges there.
        """
        self.model.set_depth(depth)
        return replace(self, processor=self.processor.fitted_to(self.model))


def save(
    model: LacoForConditionalGeneration,
    processor: LacoProcessor,
    folder: Path | str,
    *,
    force: bool = False,
    state_dict: Mapping[str, torch.Tensor] | None = None,
    files: Mapping[str, str] | None = None,
) -> None:
    """Write a checkpoint folder in one step (complete or absent).

    Args:
        state_dict: the weights, where they were gathered from several processes; None takes the model's.
        files: further text files by name, of :data:`~laco_export.checkpoint_files.TRAINING_RECORDS`.

    Raises:
        OutputExistsError: ``folder`` stands already, and ``force`` is False or it is no checkpoint of LaCo's.
    """
    if state_dict is not None and model.config.tie_word_embeddings:
        # Gathered weights share no memory, by which transformers would know a tied head.
        state_dict = {name: value for name, value in state_dict.items() if name not in model._tied_weights_keys}
    refuse_to_replace_non_checkpoint(folder)
    with new_directory(folder, force=force) as partial, without_progress_bars():
        model.save_pretrained(partial, state_dict=state_dict)
        processor.save_pretrained(partial)
        _open_to_others(partial)
        for name, text in (files or {}).items():
            (partial / name).write_text(text, encoding="utf-8")


def _open_to_others(folder: Path) -> None:
    """Give the weight files the mode that a new file gets: safetensors makes them its owner's alone."""
    usual = folder / "mode"
    usual.touch()
    mode = usual.stat().st_mode & 0o777
    usual.unlink()
    for path in folder.glob("*.safetensors"):
        path.chmod(mode)


def load(
    folder: Path | str,
    *,
    dtype: torch.dtype = torch.float32,
    without_language_model: bool = False,
    mapped: bool = False,
) -> Checkpoint:
    """Audit and load a checkpoint.

    Args:
        without_language_model: leave it on the meta device, where it takes no memory; the rest is FP32.
        mapped: of :func:`~.tower_weights.load_tower`, where the language model is left out.

    Raises:
        CheckpointError: not a checkpoint, not LaCo's, pickled, truncated, damaged, or with tensors that are missing,
            unexpected or of another shape.
    """
    folder = Path(folder)
    config = read_config(folder)
    weights = weight_files.find(folder)
    audit_tensors(folder, weights, config)
    digests, checked = checksums.verify(folder, weights)
    try:
        processor = LacoProcessor.from_pretrained(folder)
    except Exception as error:  # tokenizers and transformers raise many kinds for a missing or broken file
        raise CheckpointError(
            f"the tokenizer or the preprocessor of '{folder}' cannot be loaded: {telling_line(error)}",
            allowed="tokenizer.json, tokenizer_config.json, preprocessor_config.json and processor_config.json",
        ) from error
    _check_tokenizer(folder, processor, config)
    if without_language_model:
        model = load_tower(folder, weights, config, mapped=mapped)
    else:
        model = _load_model(folder, config, dtype)
    return Checkpoint(folder, model, processor, _digest(folder, digests), checked)


def take_language_model(checkpoint: Checkpoint, dtype: torch.dtype = torch.float32) -> None:
    """Give a checkpoint that was loaded without its language model that language model; its files were audited then."""
    whole = _load_model(checkpoint.path, checkpoint.model.config, dtype)
    checkpoint.model.language_model = whole.language_model


def _load_model(folder: Path, config: LacoConfig, dtype: torch.dtype) -> LacoForConditionalGeneration:
    with without_progress_bars():
        model = LacoForConditionalGeneration.from_pretrained(folder, config=config, dtype=dtype, use_safetensors=True)
    return model.eval()


def _check_tokenizer(folder: Path, processor: LacoProcessor, config: LacoConfig) -> None:
    """What would otherwise show in training or on a device: a picture's token is the model's, and nothing else's."""
    image, padding = processor.image_token_id, processor.tokenizer.pad_token_id
    if image != config.image_token_id or padding == image:
        raise CheckpointError(
            f"the tokenizer of '{folder}' does not fit its model",
            given=f"the image token is {image}, the padding token {padding}",
            allowed=f"config.json's image_token_id, {config.image_token_id}, and another padding token",
            todo="get the checkpoint's own tokenizer files again; laco-train init makes them ready",
        )


def stated_sha256(folder: Path | str) -> str:
    """``Checkpoint.sha256`` as ``checksums.json`` says; the weights are read only where there is none."""
    folder = Path(folder)
    path = folder / checksums.CHECKSUMS_NAME
    digests = weight_files.read_json(path) if path.is_file() else checksums.verify(folder, weight_files.find(folder))[0]
    return _digest(folder, digests)


def _digest(folder: Path, digests: Mapping[str, str]) -> str:
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    for name, value in sorted(digests.items()):
        digest.update(f"{name}:{value}\n".encode())
    return digest.hexdigest()


def read_config(folder: Path) -> LacoConfig:
    """``config.json`` of a LaCo checkpoint, validated."""
    values = read_stated_checkpoint(folder).values
    try:
        return LacoConfig.from_dict(values)
    except LacoError:
        raise
    except Exception as error:
        path = folder / "config.json"
        raise CheckpointError(f"'{path}' is not a valid configuration: {telling_line(error)}") from error


def audit_tensors(folder: Path, weights: list[Path], config: LacoConfig) -> None:
    """Compare the names and shapes of the stored tensors with those of the model that the configuration describes."""
    stored: dict[str, tuple[int, ...]] = {}
    for path in weights:
        try:
            with safe_open(path, framework="pt") as file:
                stored.update({name: tuple(file.get_slice(name).get_shape()) for name in file.keys()})  # noqa: SIM118
        except (SafetensorError, OSError, ValueError) as error:
            raise CheckpointError(
                f"'{path}' is damaged or cut off: {telling_line(error)}",
                given=f"{path.stat().st_size:,} bytes",
                todo="copy the checkpoint again",
            ) from error
    try:
        with torch.device("meta"):
            model = LacoForConditionalGeneration(config)
    except LacoError:
        raise
    except Exception as error:  # transformers' classes check their configuration only when they are built
        raise CheckpointError(
            f"'{folder / 'config.json'}' describes a model that cannot be built: {telling_line(error)}"
        ) from error
    audit, expected = TensorAudit(folder), {name: tensor.shape for name, tensor in model.state_dict().items()}
    tied = set(model._tied_weights_keys) if config.text_config.tie_word_embeddings else set()
    audit.missing += expected.keys() - stored.keys() - tied
    audit.unexpected += stored.keys() - expected.keys()
    for name in stored.keys() & expected.keys():
        audit.fits(name, stored[name], expected[name])
    audit.close("the weights and config.json belong to different models, or the file was edited; get both again")
