"""Commands whose stdout or stderr is closed, full, or no longer read."""

import json
import os
import subprocess
import sys

import pytest

WORK = """
import json, sys, threading
from laco_export.console import progress, run_command, say
from laco_export.standard_streams import print_json

def main():
    say("a message of some length " * 400)  # more than a stream's buffer
    print("another", file=sys.stderr, flush=True)
    with progress("work") as advance:
        advance(1)
    print("the answer")
    print_json({"name": "b\\udcff", "text": "Größe"}, indent=None)

raise SystemExit(run_command(main))
"""
ANSWER = 'the answer\n{"name": "b\\udcff", "text": "Gr\\u00f6\\u00dfe"}\n'


def run(redirection: str, work: str = WORK, **environment: str) -> subprocess.CompletedProcess:
    """The work by a shell, which closes and redirects."""
    command = ["bash", "-c", f'"$0" -c "$1" {redirection}', sys.executable, work]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ | environment)


@pytest.mark.parametrize("redirection", ["2>/dev/full", "2>&-", "2> >(exec true)", "2>&- <&-"])
def test_nobody_takes_the_messages_and_the_answer_comes(redirection):
    ended = run(redirection)
    assert (ended.stdout, ended.stderr, ended.returncode) == (ANSWER, "", 0)


def test_a_full_stdout_is_said_and_fails():
    ended = run("1>/dev/full")
    assert ended.returncode == 1
    assert "error: standard output cannot be written: No space left on device" in ended.stderr
    assert "Traceback" not in ended.stderr and "Exception ignored" not in ended.stderr


def test_a_closed_stdout_is_wanted():
    ended = run("1>&-")
    assert (ended.returncode, ended.stdout) == (0, "")
    assert "error" not in ended.stderr


def test_a_reader_that_leaves_ends_it_quietly():
    ended = run("2>/dev/null | true; exit ${PIPESTATUS[0]}", WORK.replace('"the answer"', '"the answer" * 100_000'))
    assert (ended.returncode, ended.stderr) == (1, "")


def test_both_are_full():
    assert run("1>/dev/full 2>/dev/full").returncode == 1


def test_a_file_does_not_get_the_number_of_a_closed_stream(tmp_path):
    work = f"""
import os, sys
from laco_export.console import run_command

def main():
    with open({str(tmp_path / "made")!r}, "wb", buffering=0) as file:
        os.write(2, b"what a library prints")
        file.write(b"content")

raise SystemExit(run_command(main))
"""
    assert run("2>&-", work).returncode == 0
    assert (tmp_path / "made").read_bytes() == b"content"


def test_json_is_escaped_where_the_stream_is_ascii():
    ended = run("", WORK.replace("b\\udcff", "b"), PYTHONIOENCODING="ascii")
    assert json.loads(ended.stdout.splitlines()[1]) == {"name": "b", "text": "Größe"}
    assert json.loads(run("").stdout.splitlines()[1])["name"] == "b\udcff"


def test_what_stdout_cannot_show_is_replaced():
    work = "from laco_export.console import run_command\nrun_command(lambda: print('× 1'))"
    ended = run("", work, PYTHONIOENCODING="ascii")
    assert (ended.stdout, ended.stderr) == ("? 1\n", "")
