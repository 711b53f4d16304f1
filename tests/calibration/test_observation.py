"""Smoothing and observation as steps: interrupted and resumed, merged, smoothed, refused where pictures are too few."""

import pytest

from laco_calibration.cli import main
from laco_calibration.errors import CalibrationError
from laco_calibration.options import CalibrationOptions
from laco_calibration.pipeline import calibrate
from laco_calibration.statistics.records import Statistics


def test_resumed_on_statistics_the_bundle_is_the_same(calibrated, fp32_folder, photographs, tmp_path, monkeypatch):
    """Interrupted after ten pictures and resumed, every file is byte for byte that of an uninterrupted run."""
    from laco_calibration import observation

    whole = calibrated(smoothing=True, method="mse", all_int8=True)
    options = {"target": "trt10.3", "method": "mse", "max_drop": 5.0, "all_int8": True}
    options = {"bundle": fp32_folder, "images": [photographs], "output": tmp_path / "bundle", **options}
    real = observation.observe

    def interrupted(*arguments, advance, **keywords):
        count = iter(range(100))

        def step():
            advance()
            if next(count) == 9:
                raise KeyboardInterrupt

        real(*arguments, advance=step, **keywords)

    monkeypatch.setattr(observation, "observe", interrupted)
    with pytest.raises(KeyboardInterrupt):
        calibrate(CalibrationOptions(**options))
    assert not (tmp_path / "bundle").exists()
    with pytest.raises(CalibrationError, match="did not end"):
        calibrate(CalibrationOptions(**options))

    monkeypatch.setattr(observation, "observe", real)
    resumed = calibrate(CalibrationOptions(**options, resume=True))

    for path in whole.output.iterdir():
        if path.is_file() and path.name not in ("laco.json", "calibration.png"):
            assert path.read_bytes() == (resumed.output / path.name).read_bytes(), path.name
    times = {"notes"}
    for key in whole.record.keys() - times:
        assert whole.record[key] == resumed.record[key], key
    assert "resumed after 10 pictures" in resumed.notes
    assert list(tmp_path.iterdir()) == [tmp_path / "bundle"], "the progress file is gone"


def test_statistics_of_two_runs_are_merged_and_used(calibrated, fp32_folder, photographs, tmp_path):
    names = sorted(photographs.iterdir())
    smoothed = calibrated(smoothing=True, method="mse", all_int8=True)
    parts = []
    for index, half in enumerate((names[:10], names[10:])):
        options = CalibrationOptions(
            fp32_folder,
            images=list(half),
            smoothing_of=smoothed.output / "calibration.json",
            output=tmp_path / str(index),
            all_int8=True,
        )
        parts.append(calibrate(options).output / "calibration.json")
    options = CalibrationOptions(
        fp32_folder, images=[photographs], statistics=parts, output=tmp_path / "both", all_int8=True
    )
    report = calibrate(options)
    assert any("judged on pictures that were also calibrated on" in note for note in report.notes)
    merged = Statistics.load(report.output / "calibration.json").pictures
    earlier = [set(Statistics.load(part).pictures) for part in parts]
    assert [len(pictures) for pictures in earlier] == [8, 8]  # of ten two are held back
    assert earlier[0] | earlier[1] < set(merged) and len(set(merged)) == len(merged)
    assert main(["--compare", *map(str, parts), "--json"]) == 0


def test_planted_outliers_miss_the_budget_without_smoothing_and_meet_it_with(
    make_tiny_model, make_fp32_bundle, plant_outliers, photographs, tmp_path
):
    folder = make_fp32_bundle(plant_outliers(make_tiny_model(blocks=4, grid=(8, 8)), 60.0))
    options = {"images": [photographs], "target": "trt10.3", "all_int8": True}
    points = {}
    for smoothing in (False, True):
        output = tmp_path / str(smoothing)
        report = calibrate(CalibrationOptions(folder, **options, smoothing=smoothing, output=output))
        points[smoothing] = report.record["points"]
        assert report.record["smoothing_equal_in_fp32"] is None or (
            report.record["smoothing_equal_in_fp32"]["cosine"] > 0.9999999
        )
    assert points[False] > 1.0 >= points[True]


def test_too_few_pictures_are_told_before_the_search(fp32_folder, photographs, tmp_path, monkeypatch):
    from laco_calibration import observation

    monkeypatch.setattr(observation, "search_strengths", lambda *_, **__: pytest.fail("searched first"))
    images = sorted(photographs.iterdir())[:3]
    with pytest.raises(CalibrationError, match="--method auto needs more pictures"):
        calibrate(CalibrationOptions(fp32_folder, images=images, output=tmp_path / "out"))
    assert not list(tmp_path.iterdir())
