"""Which pictures judge and which are observed."""

import pytest

from laco_calibration.errors import CalibrationError
from laco_calibration.source.held_out import JUDGES, divide
from laco_calibration.source.picture_set import find_pictures


def test_judging_pictures_are_held_back_where_there_are_enough(photographs, fp32_bundle):
    many = divide(find_pictures([photographs]), fp32_bundle, limit=None, minimum=4)
    assert many.held_out and len(many.judging) == JUDGES == len(many.tiles)
    assert not {picture.sha256 for picture in many.judging} & {picture.sha256 for picture in many.observed}

    few = divide(find_pictures([photographs]), fp32_bundle, limit=10, minimum=4)
    assert not few.held_out and len(few.observed) == 10


def test_nothing_readable_is_refused(tmp_path, fp32_bundle):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_text(name)
    with pytest.raises(CalibrationError, match="none of the pictures can be read") as raised:
        divide(find_pictures([tmp_path]), fp32_bundle, limit=None, minimum=1)
    assert "2 broken" in str(raised.value) and "b.png" in str(raised.value)


def test_broken_files_do_not_use_up_the_pictures_to_observe(folder, photographs, fp32_bundle):
    """Eight that can be read among twelve that cannot: they judge and are observed, instead of only judging."""
    for index, path in enumerate(sorted(photographs.iterdir())[:JUDGES]):
        (folder / f"0{index}.png").write_bytes(path.read_bytes())
    for index in range(12):
        (folder / f"z{index}.png").write_text(f"broken {index}")
    division = divide(find_pictures([folder]), fp32_bundle, limit=None, minimum=4)
    assert not division.held_out
    assert {picture.sha256 for picture in division.judging} <= {picture.sha256 for picture in division.observed}
