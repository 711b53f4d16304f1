"""What docs/engines.md shows is run."""

import io
import re
import shlex
from pathlib import Path

import pytest

from laco_engines.cli import main

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "engines.md").read_text(encoding="utf-8")
COMMANDS = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.S) for line in block.splitlines() if line]
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.S)


@pytest.fixture
def where_it_is_run(bundle_folder, make_picture, tmp_path, monkeypatch):
    """A folder with the files that the page names."""
    (tmp_path / "bundle").symlink_to(bundle_folder)
    for index, name in enumerate(("photo.jpg", "a.png", "b.png")):
        make_picture(index).save(tmp_path / name)
    first, *rest = [make_picture(index) for index in range(4)]
    first.save(tmp_path / "clip.gif", save_all=True, append_images=rest)
    (tmp_path / "questions.txt").write_text("What is this?\nWhere is it?\n")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_pages_commands(where_it_is_run, command, capfd, monkeypatch):
    program, *arguments = shlex.split(command)
    assert program == "laco-engine"
    monkeypatch.setattr("sys.stdin", io.StringIO("What is this?\n"))  # for chat
    assert main([*arguments, "--max-new-tokens", "4"]) == 0
    assert capfd.readouterr().out.strip()


@pytest.mark.parametrize("source", PYTHON)
def test_the_pages_python(where_it_is_run, source, capsys):
    names = {}
    exec(compile(source, "docs/engines.md", "exec"), names)
    assert [answer.seed for answer in names["answers"]] == [1, 1]
    assert len(names["chat"].exchanges) == 2
    assert capsys.readouterr().out.strip()


def test_the_page_has_them():
    assert len(COMMANDS) >= 4
    assert PYTHON


def test_the_page_names_every_option(capsys):
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    options = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help"}
    assert options - set(re.findall(r"--[a-z][a-z-]+", PAGE)) == set()
