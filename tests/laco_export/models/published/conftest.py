import shutil

import pytest


@pytest.fixture
def copied(imported, tmp_path):
    """``copied(family)``: what transformers made of its folder, and a copy of that which may be changed."""

    def copy(family):
        theirs, _ = imported(family)
        return theirs, shutil.copytree(theirs.folder, tmp_path / "folder")

    return copy
