"""SIGKILL at random moments of a calibration: the old bundle or none, and the bundle that it reads as it was."""

import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from laco_export.bundle import open_bundle

KILLS = 6


@pytest.mark.slow
def test_a_killed_calibration_leaves_the_old_bundle_or_none(fp32_folder, photographs, tmp_path):
    output = tmp_path / "bundles" / "bundle"
    output.parent.mkdir()
    script = Path(__file__).with_name("kill_calibrations.py")
    done = subprocess.run(
        [sys.executable, script, fp32_folder, photographs, output, str(KILLS)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    runs = [line.split() for line in done.stdout.splitlines() if line.endswith(("killed", "done"))]
    assert len(runs) == KILLS
    nothing_there, replacing = runs[: KILLS // 2], runs[KILLS // 2 :]
    for (before, _, _), (after, _, ended) in pairwise([("none", "0", "killed"), *nothing_there]):
        assert after == "bundle" or (ended == "killed" and after == before)
    assert all(after == "bundle" or left != "0" for after, left, _ in replacing)  # the old one, set aside
    assert "broken" not in {after for after, _, _ in runs}
    assert sum(ended == "killed" for _, _, ended in runs) >= KILLS // 2
    assert sorted(path.name for path in output.parent.iterdir()) == ["bundle", "other"]
    assert open_bundle(output).manifest.vision.precision == "int8"
    open_bundle(fp32_folder)
