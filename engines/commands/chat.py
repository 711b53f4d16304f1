"""``laco-engine chat``: a conversation about pictures, on a terminal or through a pipe.

A line is a question, or a command of :data:`_CHAT_COMMANDS`. Answers go to stdout, everything else to stderr.
"""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from laco_export.standard_streams import print_json
from laco_export.utf8 import standard_input_lines

from .answer_arguments import add_answer_arguments, check_runtime_names, generation_options, open_answerer
from .answer_output import answer_fields, show, show_note, show_timings
from .command import Command

_CHAT_COMMANDS = {
    "/image PATH": "show a picture with the next question",
    "/video PATH": "show a video with the next question",
    "/reset": "forget the conversation",
    "/quit": "end the chat",
}


def _run(args: argparse.Namespace) -> int:
    from laco_export.bundle import open_bundle
    from laco_export.console import progress
    from laco_export.preprocessing import MAX_PIXELS

    from ..chat import Chat
    from ..prompts.prompter import Prompter

    options = generation_options(args)
    check_runtime_names(args)
    with progress("verifying the bundle", transient=True):
        bundle = open_bundle(args.bundle, args.at)
        prompter = Prompter(bundle)
    limits = {"max_pixels": args.max_pixels or MAX_PIXELS, "max_frames": args.frames}
    shown = _Shown(prompter.preparer, **limits)
    for path in args.image:
        shown.add_image(path)
    for path in args.video:
        shown.add_video(path)
    prompter.system_turn(args.system)  # refused, if it is, before the models are loaded
    with progress("loading the models", transient=True):
        answerer = open_answerer(bundle, prompter, args)
    chat = Chat(answerer, system=args.system, options=options, on_overflow=args.on_overflow, **limits)
    return _Conversation(chat, shown, as_json=args.json).run()


class _Shown:
    """The pictures and videos that go with the next question, read when they are named."""

    def __init__(self, preparer, max_pixels: int, max_frames: int | None):
        self._max_pixels, self._max_frames = max_pixels, max_frames or preparer.max_frames
        self._resized_to = preparer.resized_to(alone=True)  # which covers what it becomes beside others
        self.pictures, self.videos, self.names = [], [], []

    def add_image(self, path: Path) -> None:
        from laco_export.preprocessing import load_image

        self.pictures.append(load_image(path, max_pixels=self._max_pixels, resized_to=self._resized_to))
        self.names.append(str(path))

    def add_video(self, path: Path) -> None:
        from laco_export.video import read_frames

        self.videos.append(read_frames(path, self._max_frames, max_pixels=self._max_pixels))
        self.names.append(str(path))

    def clear(self) -> None:
        self.pictures, self.videos, self.names = [], [], []


class _Conversation:
    """Reads lines, answers questions and obeys commands until ``/quit`` or the end of the input."""

    def __init__(self, chat, shown: _Shown, *, as_json: bool):
        self._chat, self._shown, self._as_json = chat, shown, as_json
        self._interactive = sys.stdin.isatty()
        self._failed = 0

    def run(self) -> int:
        """The exit code: 1 where a line of a pipe failed; on a terminal the user has seen it."""
        if self._interactive:
            show_note("\n".join(f"{command:<12}{meaning}" for command, meaning in _CHAT_COMMANDS.items()))
        for line in self._lines():
            if line.startswith("/"):
                if line == "/quit":
                    break
                self._attempt(lambda line=line: self._command(line))
            elif line:
                self._attempt(lambda line=line: self._ask(line))
        return 1 if self._failed and not self._interactive else 0

    def _lines(self) -> Iterator[str]:
        if not self._interactive:
            yield from (line.strip() for line in standard_input_lines())
            return
        with suppress(ImportError):  # a Python built without it
            import readline  # noqa: F401  importing it gives input() a history
        while True:
            try:
                yield input("> ").strip()
            except EOFError:
                show_note("")
                return
            except KeyboardInterrupt:
                show_note("\n/quit ends the chat")

    def _attempt(self, action: Callable[[], None]) -> None:
        """A failure ends its line and not the chat."""
        from laco_export.errors import LacoError

        try:
            action()
        except (LacoError, OSError) as error:
            if isinstance(error, BrokenPipeError):
                raise
            self._failed += 1
            show_note(f"error: {error}")
        except KeyboardInterrupt:  # pressed twice: the answer is given up, and the question forgotten
            if not self._interactive:
                raise
            show_note("\nthe question was dropped")

    def _command(self, line: str) -> None:
        from laco_export.errors import UsageError

        name, _, rest = line.partition(" ")
        path = rest.strip().strip("'\"")
        if name in ("/image", "/video") and path:
            (self._shown.add_image if name == "/image" else self._shown.add_video)(Path(path).expanduser())
            show_note(f"{path} goes with the next question")
        elif line == "/reset":
            self._chat.reset()
            self._shown.clear()
            show_note("the conversation is forgotten")
        else:
            raise UsageError("there is no such command", given=line, allowed="; ".join(_CHAT_COMMANDS))

    def _ask(self, question: str) -> None:
        shown = self._shown
        with _stop_on_interrupt() as interrupted:
            answer = self._chat.ask(
                question,
                shown.pictures,
                shown.videos,
                on_text=None if self._as_json else show,
                cancelled=interrupted,
            )
        if self._as_json:
            fields = {"turn": len(self._chat.exchanges), "shown": shown.names}
            document = fields | answer_fields(answer, question, self._chat.answerer)
            print_json(document, indent=None)
        else:
            print(flush=True)
            show_timings(answer, len(self._chat.exchanges[-1].question.visuals))
        shown.clear()


@contextmanager
def _stop_on_interrupt() -> Iterator[Callable[[], bool]]:
    """Inside the block Ctrl-C is only noted, and what is yielded says whether it was; a second one interrupts."""
    pressed = threading.Event()

    def note(signum, frame):
        if pressed.is_set():
            raise KeyboardInterrupt
        pressed.set()

    before = signal.signal(signal.SIGINT, note)
    try:
        yield pressed.is_set
    finally:
        signal.signal(signal.SIGINT, before)


CHAT = Command("chat", "talk about pictures and videos, turn by turn", add_answer_arguments, _run)
