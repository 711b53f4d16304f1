"""A command's memory, by the steps that it names."""

import sys

import pytest
from memory_by_step import BEHIND, run_sampled

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs Linux: /proc")

MIB = 1 << 20
STEPS = """
import mmap, sys, time
held = bytearray(b"x") * (64 << 20)
time.sleep(0.2)
print("anonymous: 0.2 s", file=sys.stderr, flush=True)
del held
with open(sys.argv[1], "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
    sum(mapped[::4096])
    time.sleep(0.2)
    print("of a file: 0.2 s", file=sys.stderr, flush=True)
time.sleep(0.1)
"""


def test_each_steps_memory_is_told_by_its_kind(tmp_path):
    (tmp_path / "file").write_bytes(bytes(48 * MIB))
    run = run_sampled([sys.executable, "-c", STEPS, str(tmp_path / "file")])
    assert list(run.steps) == ["anonymous", "of a file", BEHIND]
    anonymous, of_file = run.steps["anonymous"], run.steps["of a file"]
    assert 64 * MIB < anonymous["anonymous"] < 96 * MIB
    assert 48 * MIB < of_file["file_backed"] < 80 * MIB
    assert anonymous["file_backed"] < 48 * MIB and of_file["resident"] >= of_file["file_backed"]
    assert run.to_json()["peak_anonymous_bytes"] == max(step["anonymous"] for step in run.steps.values())


def test_a_command_that_fails_is_shown(capsys):
    with pytest.raises(SystemExit, match="ended with 3"):
        run_sampled([sys.executable, "-c", "import sys; print('why', file=sys.stderr); sys.exit(3)"])
    assert "why" in capsys.readouterr().err
