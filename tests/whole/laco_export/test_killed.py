"""SIGKILL at random moments of an export: the old bundle or none, and nothing left over after the next run."""

import os
import subprocess
import sys
from itertools import islice, pairwise
from pathlib import Path

import pytest

from laco_export.bundle import open_bundle

KILLS = {"export": 12, "export and trial": 6}


@pytest.fixture(scope="module")
def killed(tiny_checkpoint, tmp_path_factory):
    """``killed(name)``: the output of these exports and a ``(state, left, ended)`` for each that was killed."""
    outputs = {name: tmp_path_factory.mktemp("killed") / "bundles" / "bundle" for name in KILLS}
    places = [str(word) for name, output in outputs.items() for word in (output, KILLS[name])]
    done = subprocess.run(
        [sys.executable, Path(__file__).with_name("kill_exports.py"), tiny_checkpoint, *places],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    lines = iter([line.split() for line in done.stdout.splitlines()])
    runs = {name: list(islice(lines, kills)) for name, kills in KILLS.items()}
    assert next(lines, None) is None
    return lambda name: (outputs[name], runs[name])


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kills"), KILLS.items(), ids=KILLS)
def test_a_killed_export_leaves_the_old_bundle_or_none(killed, name, kills):
    output, runs = killed(name)
    assert len(runs) == kills
    nothing_there, replacing = runs[: kills // 2], runs[kills // 2 :]
    for (before, _, _), (after, _, ended) in pairwise([("none", "0", "killed"), *nothing_there]):
        assert after == "bundle" or (ended == "killed" and after == before)
    for after, left, _ in replacing:  # none: in the instant between two renames, the old folder set aside
        assert after == "bundle" or (after, left) == ("none", "2")
    assert all(int(left) <= 1 or after == "none" for after, left, _ in runs)  # its own: an earlier run's is gone
    assert (
        sum((left, ended) == ("1", "killed") for _, left, ended in runs) >= kills // 2
    )  # killed in the midst of writing
    assert sorted(path.name for path in output.parent.iterdir()) == ["bundle", "other"]
    open_bundle(output)
