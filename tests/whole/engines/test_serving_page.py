"""What docs/serving.md shows is run."""

import json
import re
import shutil
from pathlib import Path

import pytest

from laco_engines.cli import main

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "serving.md").read_text(encoding="utf-8")
LOCAL = "http://127.0.0.1:8000"


def test_the_page_names_every_option(capsys):
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    options = set(re.findall(r"--[a-z][a-z-]+", capsys.readouterr().out)) - {"--help", "--debug"}
    assert options - set(re.findall(r"--[a-z][a-z-]+", PAGE)) == set()


def test_the_page_s_python(server, questions, tmp_path, monkeypatch, capsys):
    (source,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    shutil.copy(questions[0].path, tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    exec(compile(source.replace(LOCAL, server.url), "docs/serving.md", "exec"), {})
    assert capsys.readouterr().out.strip()


def test_the_page_s_request(server):
    (body,) = re.findall(r"-d '(.*?)'", PAGE)
    status, _, document = server.post(body.encode())
    assert status == 200
    assert document["choices"][0]["message"]["role"] == "assistant"
    assert json.loads(body)["max_tokens"] >= document["usage"]["completion_tokens"]


def test_the_table_holds_the_command_s_own_values():
    from laco_engines.serving.settings import ServeSettings

    settings = ServeSettings()
    assert f"`--queue` {settings.queue} " in PAGE
    assert f"`--timeout` {settings.timeout_s:g} s" in PAGE
    assert f"`--max-body` {settings.max_body_bytes >> 20} MB" in PAGE
    assert f"`--max-pictures` {settings.max_pictures} " in PAGE
    assert f"`--max-new-tokens` ({settings.max_new_tokens})" in PAGE
    assert f"`--drain` ({settings.drain_s:g} s)" in PAGE
