"""What training refuses before PyTorch is imported: folders, checkpoints and data that are not there.

All of it is asked of names, JSON files and the headers of weight files. What passes can still be refused by who reads
it whole.
"""

from __future__ import annotations

from pathlib import Path

from laco_export.errors import CheckpointError, ConfigError, LacoError
from laco_export.exportable import require_family
from laco_export.published_families import read_published_config
from laco_export.required_packages import MODEL_PACKAGES, TRAINING_PACKAGES, require_packages
from laco_export.stated_checkpoint import StatedCheckpoint, read_stated_checkpoint
from laco_export.weight_files import find, read_json, refuse_many_layers, refuse_quantised

from .checkpoint_start import check_merges
from .data.mixture import read_mixture
from .data.picture_sources import require_pictures
from .data.pictures import Pictures
from .data.sources import require_data
from .recipe import Recipe, StageRecipe
from .stage_data import data_path


def check_checkpoint(folder: Path) -> StatedCheckpoint:
    """A LaCo checkpoint whose weight files are whole by their headers, and the packages that load it.

    Raises:
        CheckpointError: it is none.
        PackageMissingError: PyTorch or transformers is not installed.
    """
    stated = read_stated_checkpoint(folder)
    stated.check_weights()
    require_packages(*MODEL_PACKAGES)
    return stated


def check_parts(encoder: Path, language_model: Path, *, weights: bool = True) -> None:
    """Folders of an encoder and of a language model that a checkpoint can be made of, as far as their names, their
    configurations and their headers say.

    Args:
        weights: are needed too.

    Raises:
        CheckpointError: a folder without a configuration or without weights, or of quantised weights; a language model
            of a family that cannot be exported.
    """
    for folder in (encoder, language_model):
        values = read_json(folder / "config.json")
        refuse_quantised(folder, values)
        refuse_many_layers(folder, values)
        if folder == language_model:
            require_family(values.get("model_type"), f"the language model of '{folder}'", error=CheckpointError)
        if weights:
            find(folder)
    require_packages(*MODEL_PACKAGES)


def check_published(folder: Path) -> None:
    """A folder of a published model that can be imported, as far as its configuration and its headers say.

    Raises:
        CheckpointError: see :func:`~laco_export.published_families.read_published_config`.
    """
    read_published_config(folder)
    require_packages(*MODEL_PACKAGES)


def check_recipe(recipe: Recipe, *, only: str | None, has_start: bool = False, weights: bool = True) -> None:
    """What a recipe names is there.

    Args:
        only: the one stage that is run; None for all.
        has_start: the checkpoint that the first stage starts from stands already.
        weights: are needed too; a plan does without.

    Raises:
        LacoError: a folder, a checkpoint or a data file is not there, named by its key; or a package is not installed.
    """
    require_packages(*TRAINING_PACKAGES)
    if recipe.model.checkpoint:
        check_merges(check_checkpoint(Path(recipe.model.checkpoint)).compression, recipe.compression)
    elif not recipe.tiny and not has_start:
        check_part_folders(recipe, weights=weights)
    if recipe.tiny:  # draws its data
        return
    for name, stage in recipe.ordered_stages():
        if only in (None, name):
            try:
                check_data(stage, Path(recipe.data_folder))
            except LacoError as error:
                raise type(error)(
                    f"stages.{name}: {error.failed}", given=error.given, allowed=error.allowed, todo=error.todo
                ) from None


def check_part_folders(recipe: Recipe, *, weights: bool = True) -> None:
    """The folders ``model.encoder`` and ``model.language_model`` of a recipe.

    Raises:
        ConfigError: there is no such folder; CheckpointError: see :func:`check_parts`.
    """
    folders = {key: Path(getattr(recipe.model, key)) for key in ("encoder", "language_model")}
    for key, folder in folders.items():
        if not folder.is_dir():
            raise ConfigError(
                f"model.{key}: there is no folder '{folder}'", todo=f"--set model.{key}=… with a downloaded model"
            )
    check_parts(**folders, weights=weights)


def check_data(stage: StageRecipe, data_folder: Path) -> None:
    """A stage's data leads somewhere, a mixture's parts too; what lies behind a URL is not looked for.

    Raises:
        DataError: it does not.
    """
    path = data_path(stage, data_folder)
    if isinstance(path, str):
        return
    (require_pictures if stage.distillation else require_conversations)(path)
    if stage.images:
        Pictures(data_folder / stage.images)


def require_conversations(path: Path) -> None:
    """A path of conversations leads somewhere, a mixture's parts too.

    Raises:
        DataError: it does not.
    """
    require_data(path)
    if path.suffix in (".yaml", ".yml"):
        for entry in read_mixture(path):
            require_data(path.parent / entry["json_path"])
