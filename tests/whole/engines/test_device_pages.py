"""What docs/devices.md, docs/planning.md and docs/jetson.md tell people to type is what the commands take, and what
doctor prints."""

import re
import shlex
from pathlib import Path

import pytest

from laco_engines.cli import build_parser
from laco_engines.devices.jetpack import JETPACKS

DOCS = Path(__file__).parents[3] / "docs"


def command_lines(name):
    text = (DOCS / name).read_text(encoding="utf-8")
    lines = "\n".join(re.findall(r"```bash\n(.*?)```", text, re.DOTALL)).splitlines()
    return [line.split("  #")[0].strip() for line in lines if line.strip()]


@pytest.mark.parametrize("name", ["devices.md", "jetson.md", "planning.md"])
def test_every_command_is_understood(name):
    typed = [line for line in command_lines(name) if line.startswith("laco-engine")]
    assert len(typed) >= 4
    for line in typed:
        for version in {line.replace("[bundle]", "bundle"), line.replace("[bundle]", "")}:
            words = shlex.split(version.replace("…", " other"))[1:]
            args = build_parser().parse_args(words)
            assert args.command.name == words[0]


def test_the_export_line_is_understood():
    from laco_export.cli import build_parser as export_parser

    (line,) = (line for line in command_lines("jetson.md") if line.startswith("laco-export"))
    export_parser().parse_args(shlex.split(line)[1:])


def test_what_doctor_tells_to_install_is_what_the_page_tells():
    page = [
        line for line in command_lines("jetson.md") if line.startswith(("sudo apt", "python3 -m venv", "pip install"))
    ]
    assert page == list(JETPACKS["6"].commands)
