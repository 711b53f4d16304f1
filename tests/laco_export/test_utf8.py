"""Words and names that are UTF-8, and those that are not."""

import argparse
import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from laco_export.conversation import check_plain
from laco_export.errors import UsageError
from laco_export.utf8 import is_utf8, path_argument, standard_input_lines, text_argument

LATIN_1 = os.fsdecode("café".encode("latin-1"))


def test_what_is_utf8_is_taken_as_it_is():
    assert is_utf8("Größe 🚦") and not is_utf8(LATIN_1)
    assert text_argument("Größe") == "Größe"
    assert path_argument("büro/b") == Path("büro/b")


@pytest.mark.parametrize("type_", [text_argument, path_argument])
def test_what_is_not_is_refused_in_ascii(type_):
    with pytest.raises(argparse.ArgumentTypeError, match="not UTF-8") as error:
        type_(LATIN_1)
    assert str(error.value).isascii()


def test_a_question_that_is_not_utf8_is_refused():
    with pytest.raises(UsageError, match="the question is not UTF-8"):
        check_plain(LATIN_1, "question")


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"\xef\xbb\xbfWhat?\nAnd \xef\xbb\xbf?\n", ["What?", "And \ufeff?"]),
        ("Größe?\n".encode(), ["Größe?"]),
        (b"caf\xe9\n", [LATIN_1]),
        (b"", []),
    ],
)
@pytest.mark.parametrize("encoding", ["ascii", "utf-8", "latin-1"])
def test_lines_of_a_pipe_are_utf8_whatever_the_locale(monkeypatch, data, lines, encoding):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding=encoding))
    assert [line.rstrip("\n") for line in standard_input_lines()] == lines


SHOW = """
import os, sys
from laco_export.utf8 import restart_in_utf8
restart_in_utf8()
assert open(sys.argv[1]).read() == "Größe", sys.argv
print(sys.argv[1].encode("utf-8").decode("utf-8"), sys.flags.utf8_mode, os.environ.get("PYTHONUTF8"), sys.argv[2:])
"""


def test_a_command_under_the_c_locale_starts_again_in_utf8(tmp_path):
    (tmp_path / "show.py").write_text(SHOW, encoding="utf-8")
    (tmp_path / "Büro").write_text("Größe", encoding="utf-8")
    c_locale = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    command = [sys.executable, "show.py", "Büro", "-x", "a b"]
    ended = subprocess.run(command, cwd=tmp_path, env=os.environ | c_locale, capture_output=True)
    assert ended.stdout.decode().split() == ["Büro", "1", "1", "['-x',", "'a", "b']"], ended.stderr
    # Asked off on the command line too, it is not started again for ever.
    off = [command[0], "-X", "utf8=0", "-c", "from laco_export.utf8 import restart_in_utf8; restart_in_utf8()"]
    assert subprocess.run(off, env=os.environ | c_locale, timeout=60).returncode == 0


def test_elsewhere_nothing_starts_again(monkeypatch):
    from laco_export import utf8

    monkeypatch.setattr(os, "execve", lambda *_: pytest.fail("started again"))
    assert sys.getfilesystemencoding() == "utf-8"
    utf8.restart_in_utf8()
