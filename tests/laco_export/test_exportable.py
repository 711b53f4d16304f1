"""What cannot be exported is refused before anyone trains it, and again by the exporter."""

import json

import pytest
from transformers import CONFIG_MAPPING, Qwen2Config
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from laco_export.errors import CheckpointError, ExportError
from laco_export.exportable import SUPPORTED_FAMILIES, require_exportable
from laco_export.models.language_models import read_language_config

SIZES = {"hidden_size": 32, "num_attention_heads": 2, "num_key_value_heads": 1, "num_hidden_layers": 2}


@pytest.fixture
def folder(tmp_path):
    """``folder(family, **fields)``: a language model's folder, its configuration alone."""

    def write(family, **fields):
        CONFIG_MAPPING[family](**{**SIZES, **fields}).save_pretrained(tmp_path)
        return tmp_path

    return write


@pytest.mark.parametrize("family", SUPPORTED_FAMILIES)
def test_a_supported_family_is_read(folder, family):
    assert read_language_config(folder(family)).model_type == family


@pytest.mark.parametrize("family", ["mistral", "phi3", "gemma2"])
def test_published_folders_of_other_families_are_refused(folder, family):
    with pytest.raises(CheckpointError, match="of a family that cannot be exported") as caught:
        read_language_config(folder(family))
    assert (caught.value.given, caught.value.allowed) == (f"model_type {family!r}", "qwen2, qwen3, llama")


def test_no_other_family_that_transformers_has_is_let_in(tmp_path):
    accepted = []
    for family in [*MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, "mine", None, ["qwen2"]]:
        (tmp_path / "config.json").write_text(json.dumps({"model_type": family}))
        try:
            read_language_config(tmp_path)
        except CheckpointError as error:
            assert "of a family that cannot be exported" in error.failed, family
        else:
            accepted.append(family)
    assert sorted(accepted) == sorted(SUPPORTED_FAMILIES)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"num_attention_heads": 4}, "head_dim 8"),
        ({"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}, "rope_type dynamic"),
        ({"rope_parameters": {"rope_type": "dynamic", "factor": 2.0}}, "rope_type dynamic"),
        ({"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 0}, "sliding_window 8"),
    ],
    ids=["heads", "rope", "rope of transformers 5", "window"],
)
def test_both_ask_in_one_room(folder, fields, told):
    with pytest.raises(CheckpointError) as before_training:
        read_language_config(folder("qwen2", **fields))
    with pytest.raises(ExportError) as at_export:
        require_exportable(Qwen2Config(**{**SIZES, **fields}))
    assert before_training.value.given == at_export.value.given
    assert told in at_export.value.given
