"""transformers 4.57 and 5: where they differ is known in two places, and the rest asks for what both have."""

import pytest
from source_tree import ROOT, Module, modules
from transformers_names import LIST, is_there, names_asked_for, words_of

from laco_export.models import checkpoint
from laco_export.models.transformers_versions import checkpointing_arguments

ROOMS = ("laco_export.models.transformers_versions", "laco_export.models.encoders.")
OF_OPTIMUM = (
    "laco_export.exporter.decoder.optimum_tracing",
    *(f"laco_engines.generation.{name}" for name in ("decoder", "kv_cache", "optimum_runtime")),
)
"""Imported where Optimum is, which allows no transformers 5."""
OF_ONE_VERSION = {
    *("rope_theta", "rope_scaling", "additional_special_tokens", "build_2d_sincos_position_embedding"),
    *("_get_no_split_modules", "_get_initial_cache_position", "get_max_cache_shape", "cache_position"),
    *("_get_global_generation_defaults", "_get_non_default_generation_parameters", "init_empty_weights"),
    *("rope_parameters", "extra_special_tokens", "is_first_iteration", "build_2d_sinusoidal_position_embedding"),
    *("_get_default_generation_params", "get_max_length", "logging_dir", "IS_5"),
}
"""Attributes, arguments and methods that transformers has in one of the two, and who says which one it is."""
TAKEN_BY_BOTH = {
    "laco_training.tiny.language_pretraining": {"rope_theta"},  # a configuration's argument, which 5 translates
}


def one_version_only(module: Module, in_both: set[str]) -> list[str]:
    """What a module asks for that only one of the two has."""
    if module.name.startswith(ROOMS) or module.name in OF_OPTIMUM:
        return []
    words = words_of(module) & OF_ONE_VERSION - TAKEN_BY_BOTH.get(module.name, set())
    return sorted(names_asked_for(module) - in_both | words)


@pytest.fixture(scope="module")
def in_both():
    return set(LIST.read_text(encoding="utf-8").split())


def test_the_two_rooms_alone_know_what_one_version_has(in_both):
    asked = {module.name: one_version_only(module, in_both) for module in modules()}
    asked = {name: names for name, names in asked.items() if names}
    assert not asked, f"if both versions have it, run tests/support/transformers_names.py: {asked}"


def test_what_both_have_is_here(in_both):
    assert not [name for name in sorted(in_both) if not is_there(name)]
    assert not is_there("transformers.image_utils.NoSuchFunction")


@pytest.mark.parametrize(
    "line",
    [
        "from transformers.modeling_utils import no_init_weights",
        "import transformers\ntransformers.TFAutoModel",
        "config.rope_theta",
        "Tokenizer(additional_special_tokens=[])",
        "def prepare_inputs_for_generation(self, input_ids, cache_position=None): ...",
        "from laco_export.models.transformers_versions import IS_5\nx = module.IS_5",
    ],
)
def test_a_name_of_one_version_is_found(line, tmp_path, in_both):
    path = tmp_path / "wrong.py"
    path.write_text(line, encoding="utf-8")
    assert one_version_only(Module("laco_training.wrong", path), in_both)
    assert not one_version_only(Module("laco_export.models.encoders.wrong", path), in_both)


def test_loading_and_saving_draw_no_bar(make_tiny_model, make_tiny_checkpoint, tmp_path, capfd):
    """And transformers draws its own again afterwards."""
    from transformers.utils import logging

    logging.enable_progress_bar()
    checkpoint.load(make_tiny_checkpoint(make_tiny_model(), tmp_path / "ckpt"))
    assert "%|" not in capfd.readouterr().err
    assert logging.is_progress_bar_enabled()


def test_both_tested_sets_agree_but_for_transformers_and_what_comes_with_it():
    sets = {}
    for name in ("constraints.txt", "constraints-transformers4.txt"):
        lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
        sets[name] = dict(line.split("==") for line in lines if "==" in line)
    newer, older = sets.values()
    apart = {name for name in newer.keys() & older.keys() if newer[name] != older[name]}
    assert apart == {"transformers", "huggingface_hub", "tokenizers"}
    assert older.keys() - newer.keys() == {"optimum", "optimum-onnx"}
    assert newer["transformers"].startswith("5.") and older["transformers"].startswith("4.57.")


@pytest.mark.filterwarnings("error::FutureWarning")
@pytest.mark.parametrize("enabled", [True, False])
def test_checkpointing_is_asked_for_by_the_names_of_the_installed_version(tmp_path, enabled):
    from transformers import TrainingArguments

    asked = checkpointing_arguments(enabled, use_reentrant=False)
    arguments = TrainingArguments(output_dir=str(tmp_path), use_cpu=True, **asked)
    assert arguments.gradient_checkpointing is enabled  # by 5 too, which mirrors the new name in it
    assert arguments.gradient_checkpointing_kwargs == {"use_reentrant": False}
