"""What a checkpoint says of generating answers is refused before minutes are spent on it."""

import json
import shutil

import pytest

from laco_export.errors import CheckpointError
from laco_export.exporter.loaded_checkpoint import load_checkpoint


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"stop_strings": ["."]}, "stop_strings"),
        ({"max_time": 2.0}, "max_time"),
        ({"repetition_penalty": 0.0}, "repetition_penalty"),
    ],
    ids=str,
)
def test_generation_fields_that_no_bundle_answers_with(tiny_checkpoint, tmp_path, fields, named):
    shutil.copytree(tiny_checkpoint, tmp_path / "checkpoint")
    path = tmp_path / "checkpoint" / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))
    with pytest.raises(CheckpointError, match=named) as caught:
        load_checkpoint(tmp_path / "checkpoint", "1/2")
    assert "generation_config.json" in str(caught.value)
