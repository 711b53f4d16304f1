"""What docs/report.md shows is run."""

import re
import shlex
from pathlib import Path

import pytest

from laco_engines.cli import main
from laco_engines.devices.host_peaks import HostPeaks
from laco_engines.report import first_token, measuring

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "report.md").read_text(encoding="utf-8")
COMMANDS = [line for line in re.findall(r"```bash\n(.*?)```", PAGE, re.S)[0].splitlines() if line.startswith("laco-")]
(PYTHON,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)


@pytest.fixture
def where_it_is_run(bundle_folder, make_picture, tmp_path, monkeypatch):
    """A folder with the files that the page names; neither this CPU's peaks nor memory are measured."""
    monkeypatch.setattr(first_token, "measure_peaks", lambda threads: HostPeaks(1e12, 1e9, threads, 2e12))
    monkeypatch.setattr(measuring, "bundle_memory", lambda request: {"peak_resident_bytes": 1 << 28})
    for name in ("bundle-fp32", "bundle-fp16"):
        (tmp_path / name).symlink_to(bundle_folder)
    (tmp_path / "photos").mkdir()
    make_picture(0).save(tmp_path / "photos" / "a.png")
    (tmp_path / "questions.txt").write_text("What is this?\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_pages_command(where_it_is_run):
    (command,) = COMMANDS
    assert main([*shlex.split(command)[1:], "--max-new-tokens", "4", "--text-runtime", "lean", "--no-memory"]) == 0
    page = (where_it_is_run / "report.html").read_text(encoding="utf-8")
    assert "bundle-fp32" in page and "bundle-fp16" in page


def test_the_pages_python(where_it_is_run):
    names = {}
    exec(compile(PYTHON, "docs/report.md", "exec"), names)
    assert names["report"].document["title"] == "For the gate"
    assert (where_it_is_run / "report.html").read_text(encoding="utf-8") == names["report"].page


def test_the_page_names_every_option(capsys):
    with pytest.raises(SystemExit):
        main(["report", "--help"])
    options = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help", "--debug"}
    assert options - set(re.findall(r"--[a-z][a-z-]+", PAGE)) == set()
