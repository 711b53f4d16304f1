"""Which earlier statistics a calibration does not go on with."""

import pytest

from laco_calibration.errors import CalibrationError
from laco_calibration.options import CalibrationOptions
from laco_calibration.pipeline import calibrate


@pytest.mark.parametrize("known_by", ["--statistics", "--resume"])
def test_smoothed_statistics_are_not_for_no_smoothing(known_by, calibrated, fp32_folder, photographs, tmp_path):
    """Nor do they pass for those of another smoothing: what was seen holds for one graph."""
    smoothed = calibrated(smoothing=True, method="mse", all_int8=True).output / "calibration.json"
    options = {"bundle": fp32_folder, "images": [photographs], "output": tmp_path / "out"}
    if known_by == "--resume":
        (tmp_path / ".out.calibration.json").write_bytes(smoothed.read_bytes())
        options["resume"] = True
    else:
        options["statistics"] = [smoothed]
    with pytest.raises(CalibrationError, match="taken with smoothing"):
        calibrate(CalibrationOptions(**options, smoothing=False))
    if known_by == "--resume":
        plain = calibrated(all_int8=True).output / "calibration.json"
        for other in ({"smoothing_of": plain}, {"statistics": [plain]}):
            with pytest.raises(CalibrationError, match="interrupted run"):
                calibrate(CalibrationOptions(**options, **other))
        assert (tmp_path / ".out.calibration.json").exists()
