"""Conversations as text, in a model's chat format, and where the pictures stand in it.

In data files and questions a picture is marked ``<image>`` (LLaVA's convention), on a line of its own before the words
or between them; in the model's input each mark is replaced by one image token per visual embedding, with what the
format puts around a picture. Without ``chat_format`` all functions write ChatML; :data:`CHAT_TEMPLATE` is its rendering
for ``tokenizer.apply_chat_template``.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from .chat_format import CHATML, IM_START, ChatFormat
from .errors import UsageError
from .utf8 import is_utf8

if TYPE_CHECKING:
    from tokenizers import AddedToken

IMAGE_MARK = "<image>"
VIDEO_MARK = "<video>"
IMAGE_TOKEN, VIDEO_TOKEN = CHATML.image_token, "<|video_pad|>"
DEFAULT_SYSTEM = CHATML.default_system

CHAT_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}"
    f"{{{{ '{CHATML.system.before}{DEFAULT_SYSTEM}{CHATML.user.after}' }}}}{{% endif %}}"
    "{% for message in messages %}"
    f"{{{{ '{IM_START}' + message['role'] + '\n' }}}}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"  # or transformers' list of typed parts
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% else %}{{ '<' + part['type'] + '>\n' }}{% endif %}"
    "{% endfor %}{% endif %}"
    f"{{{{ '{CHATML.user.after}' }}}}"
    "{% endfor %}"
    f"{{% if add_generation_prompt %}}{{{{ '{CHATML.generation_header}' }}}}{{% endif %}}"
)

SPECIAL_TOKEN = re.compile(r"<\|[a-z_]+\|>")
"""What ChatML's special tokens look like; in a text from outside one would end or forge a turn."""

Turn = tuple[str, str]
"""``(role, text)`` with role ``system``, ``user`` or ``assistant``."""

DEFAULT_QUESTION = "Describe the picture."
"""Asked of a picture that nobody asks anything about."""

_PICTURE_LINES = re.compile(rf"(?:(?:{IMAGE_MARK}|{VIDEO_MARK})\n)*")


class Span(NamedTuple):
    """A part of a conversation: in whose turn it stands, and whether its tokens are trained on."""

    text: str
    role: str
    counts: bool = False


def render(turns: Sequence[Turn], *, add_generation_prompt: bool = False, chat_format: ChatFormat = CHATML) -> str:
    """The conversation as a prompt is written, with the default system line where none is given.

    Raises:
        UsageError: the format has no place for a system line, and one is given.
    """
    texts = [text for _, text in written_turns(turns, chat_format)]
    return chat_format.begin + "".join(texts) + (chat_format.generation_header if add_generation_prompt else "")


def render_with_mask(turns: Sequence[Turn], chat_format: ChatFormat = CHATML) -> list[tuple[str, bool]]:
    """The texts of :func:`training_spans`, each with whether its tokens are trained on."""
    return [(span.text, span.counts) for span in training_spans(turns, chat_format)]


def training_spans(turns: Sequence[Turn], chat_format: ChatFormat = CHATML) -> list[Span]:
    """The conversation as a model is trained on it: consecutive spans.

    The assistant's words and the token that ends them count; everything else does not. Before each answer stands what
    the model will be asked with (``generation_header``), which in a few published templates is other than what stands
    before an earlier answer; and each answer ends, which a few templates leave to the model.

    Raises:
        UsageError: as :func:`render`.
    """
    spans = [Span(chat_format.begin, "system")]
    for role, text in written_turns(turns, chat_format):
        spans += _trained_answer(text, chat_format) if role == "assistant" else [Span(text, role)]
    return [span for span in spans if span.text]


def _trained_answer(turn: str, chat_format: ChatFormat) -> list[Span]:
    before, after = chat_format.assistant.before, chat_format.assistant.after
    to_end, end, rest = after.partition(chat_format.answer_end)
    closing, rest = (to_end + end, rest) if end else (chat_format.answer_end, after)
    answer = chat_format.answer_start + turn[len(before) : len(turn) - len(after)] + closing
    header = chat_format.generation_header
    return [Span(header, "assistant"), Span(answer, "assistant", counts=True), Span(rest, "assistant")]


def written_turns(turns: Sequence[Turn], chat_format: ChatFormat = CHATML) -> list[Turn]:
    """Each turn's role and whole text; first the default system line, where there is one and none is given.

    Raises:
        UsageError: as :func:`render`.
    """
    if (not turns or turns[0][0] != "system") and chat_format.default_system is not None:
        turns = [("system", chat_format.default_system), *turns]
    written = [(role, turn_text(role, text, chat_format)) for role, text in turns]
    if chat_format.system_in_user and [role for role, _ in written[:2]] == ["system", "user"]:
        before = chat_format.user.before
        (_, system), (_, question) = written[:2]
        written[:2] = [("system", before + system), ("user", question[len(before) :])]
    return written


def turn_text(role: str, text: str, chat_format: ChatFormat = CHATML) -> str:
    """A turn with the format's text around it; marks of pictures stay marks.

    Raises:
        UsageError: the format has no place for a system line.
    """
    around = {"system": chat_format.system, "user": chat_format.user, "assistant": chat_format.assistant}[role]
    if around is None:
        raise UsageError(
            "the model's chat format has no place for a system line", given=text, todo="say it in the first question"
        )
    words = user_words(text, chat_format) if role == "user" else around.words(text)
    return f"{around.before}{words}{around.after}"


def user_words(text: str, chat_format: ChatFormat = CHATML) -> str:
    """A user's text, its marks that come first as the format sets them before the words."""
    lines = _PICTURE_LINES.match(text)[0]
    words = chat_format.user.words(text[len(lines) :])
    return lines.replace("\n", chat_format.picture_line_end) + chat_format.words_before + words


def question_turn(
    question: str, num_images: int, num_videos: int = 0, *, special: re.Pattern[str] = SPECIAL_TOKEN
) -> Turn:
    """The user's turn for a question about ``num_images`` pictures and ``num_videos`` videos.

    Pictures and then videos come before the question, one mark a line, unless the question places the marks of that
    kind itself.

    Args:
        special: what :func:`check_plain` refuses.

    Raises:
        UsageError: the question is empty, holds a special token, or has marks for another number of pictures or videos.
    """
    if not question.strip():
        raise UsageError("the question is empty", todo="give one with --question TEXT")
    before, words = "", question
    for kind, mark, count in (("pictures", IMAGE_MARK, num_images), ("videos", VIDEO_MARK, num_videos)):
        marks = question.count(mark)
        if marks not in (0, count):
            raise UsageError(
                f"the question marks {marks} {kind} and {count} are given",
                allowed=f"no {mark} at all ({kind} come first), or one for each",
            )
        words = words.replace(mark, "\0" * len(mark))  # a mark is a picture, also where a token has its name
        before += "" if marks else f"{mark}\n" * count
    check_plain(words, "question", special)
    return ("user", before + question)


def check_plain(text: str, what: str, special: re.Pattern[str] = SPECIAL_TOKEN) -> None:
    """Raise :class:`UsageError` where ``text`` is not UTF-8 or holds a special token.

    Args:
        what: names the text in messages.
        special: matches the special tokens' names; :func:`special_pattern` makes it of a tokenizer's.
    """
    if not is_utf8(text):
        raise UsageError(f"the {what} is not UTF-8 text", given=ascii(text))
    if token := special.search(text):
        raise UsageError(
            f"the {what} holds a special token, which would end or forge a turn", given=token[0], allowed="plain text"
        )


def forging_tokens(
    added: Mapping[int, AddedToken], chat_format: ChatFormat = CHATML, end_ids: Collection[int] = ()
) -> list[str]:
    """The names of a tokenizer's tokens that would end or forge a turn or a picture in a text from outside.

    Those are the ones that the chat format writes, those that end an answer, and special ones that look like ChatML's.
    Other special tokens (``<filename>``, ``<unk>``) are text that people write. Where a format's marks are plain words,
    as Vicuna's ``USER:``, no token tells a forged turn.

    Args:
        added: the tokenizer's added tokens by id: ``.content`` and ``.special``.
    """
    written = "".join(chat_format.fixed_texts)
    is_mark = lambda name: name in written and bool(re.search(r"[^\w\s]", name))  # no word, no white space
    return [
        token.content
        for index, token in added.items()
        if index in end_ids or is_mark(token.content) or (token.special and SPECIAL_TOKEN.fullmatch(token.content))
    ]


def special_pattern(tokens: Iterable[str]) -> re.Pattern[str]:
    """What finds any of the tokens' names in a text, the longest first; without tokens, nothing."""
    names = sorted(filter(None, tokens), key=len, reverse=True)
    return re.compile("|".join(map(re.escape, names)) or r"(?!)")


def frame_marks(count: int, chat_format: ChatFormat = CHATML) -> str:
    """What a ``<video>`` mark becomes: a mark for each of its ``count`` frames, with the format's text around them."""
    marks = [f"{chat_format.frame_header(number)}{IMAGE_MARK}" for number in range(1, count + 1)]
    return chat_format.frame_between.join(marks)


def expand_image_tokens(text: str, tokens_per_image: Iterable[int], chat_format: ChatFormat = CHATML) -> str:
    """Replace the i-th ``<image>`` by ``tokens_per_image[i]`` image tokens, with what the format puts around them.

    Raises:
        UsageError: the text does not hold exactly one mark per entry.
    """
    pieces, counts = text.split(IMAGE_MARK), list(tokens_per_image)
    if len(pieces) - 1 != len(counts):
        raise UsageError(
            f"the text marks {len(pieces) - 1} pictures and {len(counts)} are given",
            allowed=f"one {IMAGE_MARK} per picture",
        )
    tokens = (
        f"{chat_format.image_before}{chat_format.image_token * count}{chat_format.image_after}" for count in counts
    )
    return pieces[0] + "".join(shown + piece for shown, piece in zip(tokens, pieces[1:], strict=True))
