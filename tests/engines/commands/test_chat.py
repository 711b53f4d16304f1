"""``laco-engine chat`` through a pipe and on a terminal."""

import builtins
import io
import json
import os
import signal
import sys

import pytest

from laco_engines.chat import Chat
from laco_engines.cli import main
from laco_engines.generation.options import GenerationOptions


@pytest.fixture
def chat(bundle_folder, capfd, monkeypatch):
    """``chat(lines, *arguments)``: exit code, stdout and stderr of a chat whose stdin is a pipe with these lines."""

    def run(lines, *arguments):
        monkeypatch.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        code = main(["chat", str(bundle_folder), "--max-new-tokens", "8", *map(str, arguments)])
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err
        return code, captured.out, captured.err

    return run


@pytest.fixture
def expected(answerer):
    return Chat(answerer, options=GenerationOptions(max_new_tokens=8))


def test_a_conversation_through_a_pipe(chat, expected, picture_file, make_picture, tmp_path):
    second = tmp_path / "second one.png"
    make_picture(2).save(second)
    lines = ["What?", "", "And?", f"/image {second}", "This?", "/reset", "What?", "/quit", "Never asked"]
    code, out, _ = chat(lines, "--image", picture_file, "--json")
    assert code == 0
    documents = [json.loads(line) for line in out.splitlines()]
    first = [expected.ask("What?", [picture_file]), expected.ask("And?"), expected.ask("This?", [second])]
    expected.reset()
    answers = [*first, expected.ask("What?")]
    assert [document["token_ids"] for document in documents] == [answer.token_ids for answer in answers]
    assert [document["turn"] for document in documents] == [1, 2, 3, 1]
    assert [document["shown"] for document in documents] == [[str(picture_file)], [], [str(second)], []]
    assert all(document["timings"]["encode_ms"] < 1 for document in (documents[1], documents[3]))
    assert all(document["cached_tokens"] > 0 for document in documents[1:])


def test_answers_are_text_on_stdout_and_timings_on_stderr(chat, expected):
    code, out, err = chat(["What?", "And?"])
    texts = [expected.ask("What?").text, expected.ask("And?").text]
    assert code == 0
    assert printable(out) == printable("".join(texts))
    assert err.count("first token") == 2


def printable(text):
    return "".join(letter for letter in text if letter.isprintable() and letter != "\ufffd")


def test_a_failed_line_does_not_end_the_chat(chat, expected, tmp_path):
    (tmp_path / "broken.png").write_text("no picture")
    lines = [f"/image {tmp_path / 'none.png'}", f"/image {tmp_path / 'broken.png'}", "/imagine", "/image", "x" * 600]
    code, out, err = chat([*lines, "What?"], "--json")
    assert code == 1  # a pipe's reader learns of it
    (document,) = [json.loads(line) for line in out.splitlines()]
    assert document["token_ids"] == expected.ask("What?").token_ids
    assert err.count("error: ") == len(lines)
    for part in ("none.png' does not exist", "is not a picture", "/imagine", "/image PATH", "longer than the model's"):
        assert part in err


def test_a_video_can_be_shown(chat, expected, make_picture, tmp_path):
    first, *rest = [make_picture(index) for index in range(3)]
    first.save(tmp_path / "clip.gif", save_all=True, append_images=rest)
    code, out, _ = chat([f"/video {tmp_path / 'clip.gif'}", "What happens?"], "--frames", "2", "--json")
    answer = expected.ask("What happens?", (), [[first, rest[-1]]])
    assert code == 0
    document = json.loads(out)
    assert document["prompt_tokens"] == answer.prompt_tokens


def test_an_overflowing_chat_forgets_on_demand(chat):
    lines = ["p" * 190, "q" * 190, "r" * 190]
    code, _, err = chat(lines)
    assert code == 1
    assert "longer than the model's context" in err
    code, _, err = chat(lines, "--on-overflow", "truncate")
    assert code == 0
    assert "note: left out to fit the context: the 2 oldest turns" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--image", "/nowhere/none.png"], "does not exist"),
        (["--system", "<|im_end|>"], "special token"),
        (["--provider", "cuda"], "not in the installed"),
        (["--stop", ""], "--stop is empty"),
    ],
)
def test_wrong_arguments_are_refused_before_a_model_is_loaded(chat, monkeypatch, arguments, message):
    monkeypatch.setattr("laco_engines.answering.Answerer.__init__", lambda *args, **kwargs: pytest.fail("loaded"))
    code, out, err = chat(["What?"], *arguments)
    assert code in (1, 2)
    assert out == ""
    assert message in err


@pytest.fixture
def terminal(bundle_folder, capfd, monkeypatch):
    """``terminal(lines)``: as ``chat``, on a terminal; an exception among the lines is raised by ``input()``."""

    def run(lines, *arguments):
        left = iter(lines)

        def read(prompt=""):
            line = next(left, EOFError())
            if isinstance(line, BaseException):
                raise line
            return line

        monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115
        monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(builtins, "input", read)
        code = main(["chat", str(bundle_folder), "--max-new-tokens", "200", *arguments])
        captured = capfd.readouterr()
        return code, captured.out, captured.err

    return run


def test_ctrl_c_stops_an_answer_and_not_the_chat(terminal, monkeypatch, answerer):
    before = signal.getsignal(signal.SIGINT)
    shown = []

    def interrupting(text):
        shown.append(text)
        if len(shown) == 3:
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("laco_engines.commands.chat.show", interrupting)
    code, _, err = terminal(["What?", "And?", "/quit"])
    assert code == 0
    first, second = [line for line in err.splitlines() if "first token" in line]
    assert first.endswith("stopped")
    assert "known" in second
    assert not second.endswith("stopped")
    assert signal.getsignal(signal.SIGINT) is before


def test_ctrl_c_twice_drops_the_question(terminal, monkeypatch):
    def interrupting(text):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr("laco_engines.commands.chat.show", interrupting)
    code, _, err = terminal(["What?", "/quit"])
    assert code == 0
    assert "the question was dropped" in err


def test_ctrl_c_at_the_prompt_says_how_to_end_and_ctrl_d_ends(terminal):
    code, out, err = terminal([KeyboardInterrupt(), "/imagine"])
    assert code == 0  # on a terminal the user has seen what failed
    assert "/quit ends the chat" in err
    assert "there is no such command" in err
    assert "/image PATH" in err
    assert out == ""
