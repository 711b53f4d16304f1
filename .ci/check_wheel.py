"""Install the wheel into empty environments and start its commands, as a user would.

    python .ci/check_wheel.py dist/laco_export-*.whl

1. What is in the wheel: the four prefixed packages and no other top-level name, the recipes, the license.
2. The ``cpu`` extra: a checkpoint is exported and the bundle answers.
3. The base and onnxruntime alone, without torch: every command starts, and the bundle gives the same answer; with the
   extra ``report`` it is reported on.
"""

from __future__ import annotations

import html
import shutil
import subprocess
import sys
import tempfile
import venv
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINT = ROOT / "tests" / "assets" / "tiny-checkpoint"
COMMANDS = ("laco-train", "laco-export", "laco-engine", "laco-calibrate")


def run(*command: str | Path, **options) -> str:
    print("$", *command, flush=True)
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)
    if result.returncode:
        sys.exit(f"exit code {result.returncode}\n{result.stdout}\n{result.stderr}")
    return result.stdout


def environment(folder: Path, *requirements: str) -> Path:
    """An empty environment with the given requirements under the tested constraints; returns its ``bin``."""
    venv.create(folder, with_pip=True)
    pip = [folder / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run(*pip, "--constraint", ROOT / "constraints.txt", *requirements)
    return folder / "bin"


def check_contents(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names if not name.split("/")[0].endswith(".dist-info")}
    assert tops == {"laco_export", "laco_training", "laco_engines", "laco_calibration"}, tops
    assert "laco_training/recipes/tiny.yaml" in names, "the tiny recipe is not in the wheel"
    assert "laco_engines/serving/page/index.html" in names, "the server's page is not in the wheel"
    assert "laco_engines/report/template/report.html" in names, "the report's page is not in the wheel"
    assert "laco_engines/evaluation/paper_tables.yaml" in names, "the tables of the paper are not in the wheel"
    assert any(name.endswith("licenses/LICENSE") for name in names), "the license is not in the wheel"
    sources = {
        f"{package}/{path.relative_to(ROOT / folder).as_posix()}"
        for folder, package in (("laco_export",) * 2, ("training", "laco_training"), ("engines", "laco_engines"))
        for path in (ROOT / folder).rglob("*.py")
    }
    assert sources <= set(names), f"not in the wheel: {sorted(sources - set(names))[:5]}"


def main() -> int:
    wheel = Path(sys.argv[1]).resolve()
    check_contents(wheel)
    picture = next((ROOT / "tests" / "assets").rglob("*.png"))
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        full = environment(folder / "full", f"{wheel}[cpu]")
        shutil.copytree(CHECKPOINT, folder / "tiny")
        options = {"cwd": folder}
        run(full / "laco-export", "--model", "tiny", "--at", "1/2", "--fp16", **options)
        bundle = folder / "tiny-at1_2-fp16"
        question = ("run", bundle, "--image", picture, "--question", "What is this?")
        answer = run(full / "laco-engine", *question, **options)
        assert answer.strip(), "no answer"
        base = environment(folder / "base", str(wheel), "onnxruntime")
        for command in COMMANDS:
            assert "usage" in run(base / command, "--help", **options).lower()
        missing = subprocess.run(
            [base / "laco-export", "--model", "tiny", "--output", "other"],
            capture_output=True,
            text=True,
            check=False,
            **options,
        )
        assert missing.returncode == 1, missing
        assert "laco-export[cpu]" in missing.stderr, missing.stderr
        assert "Traceback" not in missing.stderr, missing.stderr
        assert not list((folder / "base").rglob("torch/__init__.py")), "the base brings PyTorch"
        alone = run(base / "laco-engine", *question, **options)
        assert alone == answer, f"without PyTorch: {alone!r}; with it: {answer!r}"
        run(base / "python", "-m", "pip", "install", "--quiet", f"{wheel}[report]")
        (folder / "pictures").mkdir()
        shutil.copy(picture, folder / "pictures")
        (folder / "questions.txt").write_text("What is this?")
        run(base / "laco-engine", "report", bundle, "--images", "pictures", "--questions", "questions.txt", **options)
        assert answer.strip() in html.unescape((folder / "report.html").read_text()), (
            "the report does not hold the answer"
        )
    print("the wheel installs and its commands run")
    return 0


if __name__ == "__main__":
    sys.exit(main())
