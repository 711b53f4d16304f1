"""A folder of pictures for the tests of sources."""

import pytest


@pytest.fixture
def folder(tmp_path, photographs):
    """Three photographs, one of them twice, in subfolders."""
    names = sorted(path.name for path in photographs.iterdir())[:3]
    (tmp_path / "b").mkdir()
    for name in names:
        (tmp_path / "b" / name).write_bytes((photographs / name).read_bytes())
    (tmp_path / "again.png").write_bytes((photographs / names[0]).read_bytes())
    (tmp_path / "notes.md").write_text("no picture")
    return tmp_path
