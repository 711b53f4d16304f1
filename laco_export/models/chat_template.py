"""A chat format from a published folder's own chat template.

A jinja template is a program; what it writes is asked of transformers' own renderer. :func:`chat_format_of` renders
conversations whose words are known, takes the text between them for the format, and then compares what the format and
the template make of other conversations. A template that is more than text around turns is refused, with the first
place where the two differ.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..chat_format import ChatFormat, RoleFormat
from ..conversation import IMAGE_MARK, Turn, render
from ..errors import CheckpointError, telling_line
from ..weight_files import read_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

_ALLOWED = "a template that writes fixed text around each turn's words, in every turn the same"
_TODO = "give the folder such a template: chat_template.jinja, or chat_template in tokenizer_config.json"
_SHOWN = 40  # characters of two texts, from where they differ
_SYSTEM, _QUESTION, _ANSWER, _SECOND = "SYSTEMLINE", "QUESTIONONE", "ANSWERONE", "QUESTIONTWO"
_PADDED = "  {}\n "
_PICTURE_LINE = f"{IMAGE_MARK}\n"
_NO_CLOCK = "{% set strftime_now = no_such_clock %}"  # undefined from here on
_GENERATION_BLOCK = re.compile(r"\{%-?\s*(end)?generation\s*-?%\}")  # transformers' own, around an assistant's words


def stated_chat_template(folder: Path) -> str | None:
    """The chat template of a published folder: the processor's, else the tokenizer's; None where it has none.

    Raises:
        CheckpointError: it is no text.
    """
    jinja = folder / "chat_template.jinja"
    if jinja.is_file():
        try:
            return jinja.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise CheckpointError(f"'{jinja}' is not UTF-8 text: {error}") from None
    for name in ("chat_template.json", "processor_config.json", "tokenizer_config.json"):
        stated = read_json(folder / name).get("chat_template") if (folder / name).is_file() else None
        if isinstance(stated, list):  # several, by name
            by_name = {entry.get("name"): entry.get("template") for entry in stated if isinstance(entry, dict)}
            stated = by_name.get("default")
        if stated is None:
            continue
        if not isinstance(stated, str):
            raise CheckpointError(
                f"the chat_template of '{folder / name}' is no text", given=type(stated).__name__, allowed="jinja"
            )
        return stated
    return None


def chat_format_of(
    template: str, tokenizer: PreTrainedTokenizerFast, *, without_clock: bool = False, **pictures: str
) -> ChatFormat:
    """The format that ``template`` writes with ``tokenizer``'s special tokens.

    Args:
        without_clock: as of :class:`TemplateRenderer`.
        tokenizer: the folder's; where it puts a first token before each text that the template does not write, that is
            the format's ``begin_token``.
        pictures: what no template says: ``image_token``, which is also how the template marks a picture, and where the
            family has them ``image_before``, ``image_after``, ``frame_before``, ``frame_between``.

    Raises:
        CheckpointError: the template cannot be rendered, is not made of turns, or the tokenizer puts a token behind
            each text.
    """
    renderer = TemplateRenderer(template, tokenizer, pictures["image_token"], without_clock=without_clock)
    chat_format = replace(_probed(renderer), **pictures)
    written = tokenizer.bos_token is not None and renderer([("user", _QUESTION)]).startswith(tokenizer.bos_token)
    chat_format = replace(chat_format, begin_token="" if written else begin_token_of(tokenizer))
    for turns in _conversations(chat_format, pictures=renderer.shows_pictures):
        _compare(renderer, chat_format, turns)
    return chat_format


def begin_token_of(tokenizer: PreTrainedTokenizerFast) -> str:
    """The token that ``tokenizer`` itself puts before a text; empty where it puts none.

    Raises:
        CheckpointError: it puts several, or one behind the text, which no turn could follow.
    """
    bare, whole = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
    added = len(whole) - len(bare)
    if added > 1 or whole[added:] != bare:
        raise CheckpointError(
            "the tokenizer puts tokens around each text that no conversation can be made of",
            given=f"'a' becomes {tokenizer.convert_ids_to_tokens(whole)}",
            allowed="at most one token, before the text",
        )
    return tokenizer.convert_ids_to_tokens(whole[0]) if added else ""


class TemplateRenderer:
    """transformers' rendering of one template.

    Args:
        template: jinja's.
        tokenizer: whose special tokens it may write.
        image_token: by which it marks a picture, if not by ``<image>``.
        without_clock: ``strftime_now`` is left undefined, for which such templates have a date of their own (Llama
            3.2's); else one that asks for it is refused.

    Attributes:
        shows_pictures: the template writes something for a picture; a text model's does not.
        takes_system: a system line is written, and not refused or left out.

    Raises:
        CheckpointError: it is no jinja, or writes the day's date.
    """

    def __init__(
        self, template: str, tokenizer: PreTrainedTokenizerFast, image_token: str, *, without_clock: bool = False
    ):
        self._template, self.tokenizer, self._image_token = template, tokenizer, image_token
        has_clock = asks_the_day(template)
        if has_clock and not without_clock:
            raise _no_turns("it writes the day's date (strftime_now)")
        if has_clock:
            self._template = _NO_CLOCK + template
        self._typed = True
        asked = self._tried([("user", _QUESTION)])
        # A template for plain texts leaves out a list of parts, fails over it, or prints it.
        self._typed = asked is not None and asked.count(_QUESTION) == 1 and "'type'" not in asked
        if has_clock and self._tried([("user", _QUESTION)]) is None:
            raise _no_turns("it writes the day's date (strftime_now) and names no other")
        shown = self._tried([("user", _PICTURE_LINE + _QUESTION)]) if self._typed else None
        self.shows_pictures = shown is not None and IMAGE_MARK in shown
        self.takes_system = _SYSTEM in (self._tried([("system", _SYSTEM), ("user", _QUESTION)]) or "")

    def __call__(self, turns: Sequence[Turn], *, add_generation_prompt: bool = True) -> str:
        """The conversation as text, each picture ``<image>``.

        Raises:
            CheckpointError: of jinja's and the template's own errors.
        """
        try:
            text = self.tokenizer.apply_chat_template(
                [{"role": role, "content": self._content(words)} for role, words in turns],
                chat_template=self._template,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
            )
        except Exception as error:  # jinja2's, and whatever the template itself raises
            raise CheckpointError(
                f"the chat template cannot be rendered: {telling_line(error)}", allowed=_ALLOWED, todo=_TODO
            ) from error
        return text.replace(self._image_token, IMAGE_MARK)

    def between(self, turns: Sequence[Turn], *words: str, add_generation_prompt: bool = True) -> list[str]:
        """The texts before, between and behind ``words``, each of which the conversation holds once.

        Raises:
            CheckpointError: it does not.
        """
        text, parts = self(turns, add_generation_prompt=add_generation_prompt), []
        for word in words:
            if text.count(word) != 1:
                raise _no_turns(f"{word!r} of a conversation is written {text.count(word)} times in its place")
            before, _, text = text.partition(word)
            parts.append(before)
        return [*parts, text]

    def strips(self, role: str) -> bool:
        """Whether the words of ``role`` lose the white space around them."""
        words = _PADDED.format(_ANSWER)
        turns = {
            "system": [("system", words), ("user", _QUESTION)],
            "user": [("user", words)],
            "assistant": [("user", _QUESTION), ("assistant", words), ("user", _SECOND)],
        }[role]
        return words not in self(turns)

    def _tried(self, turns: Sequence[Turn]) -> str | None:
        try:
            return self(turns)
        except CheckpointError:
            return None

    def _content(self, words: str) -> str | list[dict]:
        if not self._typed:
            return words
        pictures = words.count(_PICTURE_LINE)
        return [{"type": "image"}] * pictures + [{"type": "text", "text": words.replace(_PICTURE_LINE, "")}]


def asks_the_day(template: str) -> bool:
    """Whether ``template`` reads the clock (``strftime_now``).

    Raises:
        CheckpointError: it is no jinja.
    """
    from jinja2 import Environment, TemplateError, meta
    from jinja2.ext import loopcontrols

    try:
        syntax = Environment(extensions=[loopcontrols]).parse(_GENERATION_BLOCK.sub("", template))
    except TemplateError as error:
        raise CheckpointError(
            f"the chat template is not jinja's: {telling_line(error)}", allowed=_ALLOWED, todo=_TODO
        ) from None
    return "strftime_now" in meta.find_undeclared_variables(syntax)


def _probed(renderer: TemplateRenderer) -> ChatFormat:
    """The format by conversations whose words are known; what it cannot say shows where it is compared."""
    asked, answered = [("user", _QUESTION)], [("user", _QUESTION), ("assistant", _ANSWER)]
    user_after = renderer.between(asked, _QUESTION, add_generation_prompt=False)[1]
    assistant_after = renderer.between(answered, _QUESTION, _ANSWER, add_generation_prompt=False)[2]
    opening, to_answer, to_question, end = renderer.between([*answered, ("user", _SECOND)], _QUESTION, _ANSWER, _SECOND)
    user_before = _less_start(to_question, assistant_after)
    line_end, words_before = _probed_pictures(renderer)
    assistant = RoleFormat(_less_start(to_answer, user_after), assistant_after, renderer.strips("assistant"))
    user = RoleFormat(_less_end(user_before, words_before), user_after, renderer.strips("user"))
    return ChatFormat(
        user=user,
        assistant=assistant,
        generation_header=_less_start(end, user_after),
        answer_end=_answer_end(assistant, renderer.tokenizer),
        picture_line_end=line_end,
        words_before=words_before,
        **_probed_system(renderer, _less_end(opening, user_before), user_before),
    )


def _probed_pictures(renderer: TemplateRenderer) -> tuple[str, str]:
    """``picture_line_end`` and ``words_before``; LLaVA's own where the template knows no pictures."""
    if not renderer.shows_pictures:
        return "\n", ""
    before = renderer.between([("user", 2 * _PICTURE_LINE + _QUESTION)], _QUESTION)[0]
    if before.count(IMAGE_MARK) != 2:
        raise _no_turns(f"two pictures are written {before!r}")
    _, line_end, rest = before.split(IMAGE_MARK)
    return line_end, _less_start(rest, line_end)


def _probed_system(renderer: TemplateRenderer, opening: str, user_before: str) -> dict:
    """The fields about the system line and the text before it.

    Args:
        opening: what stands before the first question's turn where no system line is given.
    """
    if not renderer.takes_system:
        return {"system": None, "default_system": None, "begin": opening}
    before, after, _ = renderer.between([("system", _SYSTEM), ("user", _QUESTION)], _SYSTEM, _QUESTION)
    strips = renderer.strips("system")
    if not after.endswith(user_before):
        before = _less_start(before, opening + user_before)
        return {
            "system": RoleFormat(before, after, strips),
            "default_system": None,
            "begin": opening,
            "system_in_user": True,
        }
    after = _less_end(after, user_before)
    if not opening or len(opening) < len(before) + len(after) or not opening.startswith(before):
        system = RoleFormat(_less_start(before, opening), after, strips)
        return {"system": system, "default_system": None, "begin": opening}
    bos = renderer.tokenizer.bos_token
    begin = bos if bos and before.startswith(bos) else ""
    default = _less_end(_less_start(opening, before), after)
    return {"system": RoleFormat(_less_start(before, begin), after, strips), "default_system": default, "begin": begin}


def _answer_end(assistant: RoleFormat, tokenizer: PreTrainedTokenizerFast) -> str:
    """The first special token behind an answer, else the tokenizer's own end."""
    special = [str(token) for token in tokenizer.added_tokens_decoder.values() if token.special]
    places = {assistant.after.find(token): token for token in special if token in assistant.after}
    end = places[min(places)] if places else tokenizer.eos_token
    if end is None:
        raise CheckpointError(
            "nothing ends an answer: the chat template writes no special token behind it, and the tokenizer has no "
            "eos_token",
            todo="name the model's eos_token in tokenizer_config.json",
        )
    return end


def _conversations(chat_format: ChatFormat, *, pictures: bool) -> Iterator[list[Turn]]:
    """Conversations of one to three questions with words that a template might change, and pictures where it may."""
    questions = ["What is it?", " Two  spaces, {{ x }}, {% if %}\n", '<b>"Dé jà"</b>\n\n中 isn\'t 10% & more']
    answers = ["It is red.", "No\nmore. ", ""]
    systems: list[str | None] = [None] if chat_format.system is None else [None, "Be brief.", " \n{{ Two }} lines\n "]
    for system in systems:
        for number in range(1, len(questions) + 1):
            for shown in (0, 1, 2) if pictures else (0,):
                turns: list[Turn] = [] if system is None else [("system", system)]
                for index, question in enumerate(questions[:number]):
                    marks = shown if index == 0 else shown // 2
                    turns += [("user", marks * _PICTURE_LINE + question), ("assistant", answers[index])]
                yield turns[:-1]


def _compare(renderer: TemplateRenderer, chat_format: ChatFormat, turns: Sequence[Turn]) -> None:
    published, ours = renderer(turns), render(turns, add_generation_prompt=True, chat_format=chat_format)
    if published == ours:
        return
    place = next(
        (index for index, pair in enumerate(zip(published, ours)) if pair[0] != pair[1]), min(len(published), len(ours))
    )
    start = max(0, place - _SHOWN // 2)
    theirs, ours = (text[start : place + _SHOWN // 2] for text in (published, ours))
    raise _no_turns(f"in a conversation of {len(turns)} turns it writes {theirs!r} where {ours!r} would follow")


def _less_start(text: str, start: str) -> str:
    if not text.startswith(start):
        raise _no_turns(f"it writes {text!r} where {start!r} should begin it")
    return text[len(start) :]


def _less_end(text: str, end: str) -> str:
    if not text.endswith(end):
        raise _no_turns(f"it writes {text!r} where {end!r} should end it")
    return text[: len(text) - len(end)]


def _no_turns(difference: str) -> CheckpointError:
    return CheckpointError(
        "the chat template is more than text around each turn", given=difference, allowed=_ALLOWED, todo=_TODO
    )
