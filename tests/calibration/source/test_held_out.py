"""Which pictures judge and which are observed."""

import pytest

from laco_calibration.errors import CalibrationError
from laco_calibration.options import CalibrationOptions
from laco_calibration.pipeline import calibrate
from laco_calibration.source.held_out import JUDGES, divide
from laco_calibration.source.picture_set import find_pictures
from laco_export.bundle import open_bundle


@pytest.mark.parametrize(
    "limit, judging, held_out, observed", [(20, 8, 8, 12), (10, 8, 2, 8), (6, 6, 1, 5), (5, 5, 1, 4), (4, 4, 0, 4)]
)
def test_pictures_are_held_back_as_far_as_there_are_enough(
    limit, judging, held_out, observed, photographs, fp32_bundle
):
    division = divide(find_pictures([photographs]), fp32_bundle, limit=limit, minimum=4)
    assert (len(division.judging), len(division.tiles)) == (judging, judging)
    assert (len(division.held_out), len(division.observed)) == (held_out, observed)
    assert len({picture.sha256 for picture in (*division.judging, *division.observed)}) == limit
    assert (division.golden, division.golden_seen) == (4, ()), "drawn ones"


@pytest.fixture(scope="module")
def paths(photographs):
    return sorted(photographs.iterdir())


@pytest.fixture(scope="module")
def of_photographs(make_tiny_model, make_fp32_bundle, paths):
    """A bundle whose golden pictures are the first three photographs."""
    return open_bundle(make_fp32_bundle(make_tiny_model(), images=paths[:3], llm=None))


def test_golden_pictures_that_are_observed_are_known(of_photographs, paths):
    """By what they show: the golden file holds their pixels at the encoder's size, and no path."""
    assert divide(find_pictures(paths[2:]), of_photographs, limit=4, minimum=4).golden_seen == (paths[2].name,)
    assert divide(find_pictures(paths[3:]), of_photographs, limit=4, minimum=4).golden_seen == ()


def test_accuracy_is_never_of_what_was_calibrated_on_alone(of_photographs, paths, tmp_path):
    """Four pictures are all needed for the ranges, and the golden ones are three of them; a fifth is held back."""
    options = {"target": "ort-cpu", "method": "max", "smoothing": False, "all_int8": True, "output": tmp_path / "out"}
    with pytest.raises(CalibrationError, match="no picture to judge on that is not calibrated on as well"):
        calibrate(CalibrationOptions(of_photographs.path, images=paths[:4], **options))
    assert not list(tmp_path.iterdir())
    report = calibrate(CalibrationOptions(of_photographs.path, images=paths[:5], **options))
    assert (report.record["held_out"], report.record["golden"]["pictures"]) == (1, 3)
    assert report.record["golden"]["calibrated_on"] >= 2
    assert any(note.startswith("golden pictures that were also calibrated on: ") for note in report.notes)
    assert any("(4 of 5): too few were given to hold more back" in note for note in report.notes)


def test_nothing_readable_is_refused(tmp_path, fp32_bundle):
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_text(name)
    with pytest.raises(CalibrationError, match="none of the pictures can be read") as raised:
        divide(find_pictures([tmp_path]), fp32_bundle, limit=None, minimum=1)
    assert "2 broken" in str(raised.value) and "b.png" in str(raised.value)


def test_broken_files_do_not_use_up_the_pictures_to_observe(folder, photographs, fp32_bundle):
    """Eight that can be read among twelve that cannot: most judge and are observed, instead of only judging."""
    for index, path in enumerate(sorted(photographs.iterdir())[:JUDGES]):
        (folder / f"0{index}.png").write_bytes(path.read_bytes())
    for index in range(12):
        (folder / f"z{index}.png").write_text(f"broken {index}")
    division = divide(find_pictures([folder]), fp32_bundle, limit=None, minimum=4)
    assert len(division.judging) == JUDGES and len(division.held_out) == 2 and len(division.observed) == 6
