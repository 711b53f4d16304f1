"""Where the parts lie, and when one is finished."""

from pathlib import Path

import pytest
from real_parts.cache import default_folder, is_finished

from laco_export import atomic


@pytest.mark.parametrize(
    ("variables", "folder"),
    [
        ({"LACO_REAL_PARTS": "/data/parts", "XDG_CACHE_HOME": "/cache"}, Path("/data/parts")),
        ({"XDG_CACHE_HOME": "/cache"}, Path("/cache/laco-export/real-parts")),
        ({"HOME": "/home/user"}, Path("/home/user/.cache/laco-export/real-parts")),
    ],
)
def test_the_cache_is_the_users(monkeypatch, variables, folder):
    for name in ("LACO_REAL_PARTS", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, setting in variables.items():
        monkeypatch.setenv(name, setting)
    assert default_folder() == folder


def test_a_part_is_finished_when_it_was_made_of_the_same_packages(tmp_path):
    origin = {"part": "encoder", "form": 1}
    assert not is_finished(tmp_path, origin)
    atomic.write_json(tmp_path / "origin.json", origin)
    assert is_finished(tmp_path, origin)
    assert not is_finished(tmp_path, origin | {"form": 2})
    (tmp_path / "origin.json").write_text("{")
    assert not is_finished(tmp_path, origin)
