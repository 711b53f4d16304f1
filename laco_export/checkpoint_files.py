"""The files that a checkpoint's folder consists of, and what of a folder ``--force`` may replace."""

from __future__ import annotations

import os
from fnmatch import fnmatchcase
from pathlib import Path

from . import weight_files
from .checksums import CHECKSUMS_NAME
from .errors import LacoError, OutputExistsError
from .stated_checkpoint import LACO_MODEL_TYPE

_NAMED = 3  # in an error, of the names that do not fit

TRAINING_RECORDS = ("recipe.yaml", "started_from.json", "looks.json", "distillation.json")
"""What training writes into a checkpoint's folder beside the model: how it was made, whether it looks, and how near its
features are to its teacher's."""

_OWN_FILES = (
    *("config.json", "generation_config.json", CHECKSUMS_NAME, *TRAINING_RECORDS),
    *("model.safetensors", "model.safetensors.index.json", "model-*-of-*.safetensors"),
    *("preprocessor_config.json", "processor_config.json", "video_preprocessor_config.json"),
    *("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "vocab.json"),
    *("vocab.txt", "merges.txt", "tokenizer.model", "chat_template.jinja", "chat_template.json"),
)
"""Patterns of the files that a checkpoint consists of, as transformers names them."""


def refuse_to_replace_non_checkpoint(folder: Path | str) -> None:
    """Let ``force`` replace a LaCo checkpoint (its weights whole or damaged) and an empty folder, and nothing else that
    a person may have.

    Raises:
        OutputExistsError: a file, a folder that holds something else (another model, say), or a checkpoint with files
            in it that are none of a checkpoint's, stands at ``folder``.
    """
    folder = Path(folder)
    if not os.path.lexists(folder) or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        ours = weight_files.read_json(folder / "config.json").get("model_type") == LACO_MODEL_TYPE
    except LacoError:
        ours = False
    if not ours:
        raise OutputExistsError(
            f"the output '{folder}' exists already and is no LaCo checkpoint, so that it is not replaced",
            allowed="a name that is free; --force replaces a folder whose config.json says model_type 'laco'",
            todo="choose another --output, or remove what stands there yourself",
        )
    if folder.is_symlink():  # which alone is replaced
        return
    others = [path.name for path in sorted(folder.iterdir()) if path.is_dir() or not _is_own(path.name)]
    if others:
        raise OutputExistsError(
            f"the output '{folder}' holds files that are not the checkpoint's, so that it is not replaced",
            given=_first([ascii(name)[1:-1] for name in others]),
            allowed="a folder of the files that a checkpoint consists of",
            todo="move them, or choose another --output",
        )


def _is_own(name: str) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in _OWN_FILES)


def _first(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
