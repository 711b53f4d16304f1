"""Conversations as text: Qwen's ChatML, and where the pictures stand in it.

In data files and questions a picture is marked ``<image>`` (LLaVA's convention); in the model's input each mark is
replaced by one ``<|image_pad|>`` token per visual embedding. Training renders whole conversations, the engines tokenise
turn by turn between the same :func:`turn_header` and :data:`TURN_FOOTER`; :data:`CHAT_TEMPLATE` is the same rendering
for ``tokenizer.apply_chat_template``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from .errors import UsageError
from .utf8 import is_utf8

IMAGE_MARK = "<image>"
VIDEO_MARK = "<video>"
IMAGE_TOKEN, VIDEO_TOKEN = "<|image_pad|>", "<|video_pad|>"
IM_START, IM_END = "<|im_start|>", "<|im_end|>"
TURN_FOOTER = f"{IM_END}\n"
DEFAULT_SYSTEM = "You are a helpful assistant."


def turn_header(role: str) -> str:
    """What stands before a turn's words; before an answer, this is what the model is asked with."""
    return f"{IM_START}{role}\n"


CHAT_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}"
    f"{{{{ '{turn_header('system')}{DEFAULT_SYSTEM}{TURN_FOOTER}' }}}}{{% endif %}}"
    "{% for message in messages %}"
    f"{{{{ '{IM_START}' + message['role'] + '\n' }}}}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"  # or transformers' list of typed parts
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% else %}{{ '<' + part['type'] + '>\n' }}{% endif %}"
    "{% endfor %}{% endif %}"
    f"{{{{ '{TURN_FOOTER}' }}}}"
    "{% endfor %}"
    f"{{% if add_generation_prompt %}}{{{{ '{turn_header('assistant')}' }}}}{{% endif %}}"
)

SPECIAL_TOKEN = re.compile(r"<\|[a-z_]+\|>")
"""What the tokenizer's special tokens look like; in a text from outside it would end or forge a turn."""

Turn = tuple[str, str]
"""``(role, text)`` with role ``system``, ``user`` or ``assistant``."""

DEFAULT_QUESTION = "Describe the picture."
"""Asked of a picture that nobody asks anything about."""


def render(turns: Sequence[Turn], *, add_generation_prompt: bool = False) -> str:
    """The conversation in ChatML, with the default system line where none is given."""
    text = "".join(text for text, _ in render_with_mask(turns))
    return text + (turn_header("assistant") if add_generation_prompt else "")


def render_with_mask(turns: Sequence[Turn]) -> list[tuple[str, bool]]:
    """The conversation as consecutive pieces of text, each with whether its tokens are trained on.

    The assistant's words and the ``<|im_end|>`` that closes them count; everything else does not. Tokenising piece by
    piece gives the tokens of the whole, since a piece ends in a newline or a special token.
    """
    if not turns or turns[0][0] != "system":
        turns = [("system", DEFAULT_SYSTEM), *turns]
    pieces: list[tuple[str, bool]] = []
    for role, text in turns:
        if role == "assistant":
            pieces += [(turn_header(role), False), (f"{text}{IM_END}", True), ("\n", False)]
        else:
            pieces.append((f"{turn_header(role)}{text}{TURN_FOOTER}", False))
    return pieces


def question_turn(question: str, num_images: int, num_videos: int = 0) -> Turn:
    """The user's turn for a question about ``num_images`` pictures and ``num_videos`` videos.

    Pictures and then videos come before the question, one mark a line, unless the question places the marks of that
    kind itself.

    Raises:
        UsageError: the question is empty, holds a special token, or has marks for another number of pictures or videos.
    """
    if not question.strip():
        raise UsageError("the question is empty", todo="give one with --question TEXT")
    check_plain(question, "question")
    before = ""
    for kind, mark, count in (("pictures", IMAGE_MARK, num_images), ("videos", VIDEO_MARK, num_videos)):
        marks = question.count(mark)
        if marks not in (0, count):
            raise UsageError(
                f"the question marks {marks} {kind} and {count} are given",
                allowed=f"no {mark} at all ({kind} come first), or one for each",
            )
        before += "" if marks else f"{mark}\n" * count
    return ("user", before + question)


def check_plain(text: str, what: str) -> None:
    """Raise :class:`UsageError` where ``text`` is not UTF-8 or holds a special token; ``what`` names it in messages."""
    if not is_utf8(text):
        raise UsageError(f"the {what} is not UTF-8 text", given=ascii(text))
    if special := SPECIAL_TOKEN.search(text):
        raise UsageError(
            f"the {what} holds a special token, which would end or forge a turn", given=special[0], allowed="plain text"
        )


def expand_image_tokens(text: str, tokens_per_image: Iterable[int]) -> str:
    """Replace the i-th ``<image>`` by ``tokens_per_image[i]`` image tokens.

    Raises:
        UsageError: the text does not hold exactly one mark per entry.
    """
    pieces, counts = text.split(IMAGE_MARK), list(tokens_per_image)
    if len(pieces) - 1 != len(counts):
        raise UsageError(
            f"the text marks {len(pieces) - 1} pictures and {len(counts)} are given",
            allowed=f"one {IMAGE_MARK} per picture",
        )
    return pieces[0] + "".join(IMAGE_TOKEN * count + piece for count, piece in zip(counts, pieces[1:], strict=True))
