"""How a model's conversations are written: the text around each role's words, and around pictures.

Published chat models differ in nothing else, as far as this project supports them: before and after the words of each
role stands a fixed text, a picture is a row of one token between two fixed texts. :data:`CHATML` is Qwen's, which
``laco-train init`` gives a language model that has its tokens; any other, and a model that was published as a whole,
keeps its own (:mod:`laco_export.models.chat_template` reads it from the folder's template). The format stands in the
checkpoint's ``processor_config.json``, which a bundle carries, so that engines need neither transformers nor jinja::

    <begin>[before]system line[after][before]pictures<words_before>question[after]…<generation_header>

:mod:`laco_export.conversation` writes conversations by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from .errors import ConfigError
from .field_types import FieldError, FieldType, FlagField, NullableField, RecordField, TextField

IM_START, IM_END = "<|im_start|>", "<|im_end|>"

_LONGEST = 4096  # characters; InternVL 2.5's system line, one of the longest, has 100
_NUMBER = "{number}"


@dataclass(frozen=True)
class RoleFormat:
    """The text around a role's words.

    Attributes:
        before, after: as text; special tokens by their names.
        strips_words: white space at both ends of the words is left out, as Llama 3's template does.
    """

    before: str
    after: str
    strips_words: bool = False

    def words(self, text: str) -> str:
        """``text`` as it stands between :attr:`before` and :attr:`after`."""
        return text.strip() if self.strips_words else text


@dataclass(frozen=True)
class ChatFormat:
    """A chat format; without arguments Qwen's ChatML with ``<|image_pad|>``.

    Attributes:
        system: None where the format has no place for a system line.
        user, assistant: as earlier turns stand in a conversation.
        generation_header: what a prompt ends in, behind which the model answers; often ``assistant.before``.
        answer_end: the special token by which the model ends its answer, and is taught to. Where
            ``assistant.after`` does not hold it (Vicuna's ``</s>``), only training writes it.
        default_system: the system line where none is given; None for none.
        system_in_user: the system line stands inside the first question's turn, before its words (Llama 2, Gemma).
        begin: text before all turns, such as ``<|begin_of_text|>``.
        begin_token: a token that the tokenizer itself puts before a text, and no template writes (Vicuna's ``<s>``).
        image_token: the token that stands for one visual embedding.
        image_before, image_after: around the tokens of each picture and each frame: ``<img>``, ``</img>``.
        picture_line_end: after each picture that comes before the words.
        words_before: before a user's words, behind its pictures.
        frame_before: before each frame of a video; ``{number}`` in it is the frame's, from 1.
        frame_between: between two frames of a video.
    """

    system: RoleFormat | None = RoleFormat(f"{IM_START}system\n", f"{IM_END}\n")
    user: RoleFormat = RoleFormat(f"{IM_START}user\n", f"{IM_END}\n")
    assistant: RoleFormat = RoleFormat(f"{IM_START}assistant\n", f"{IM_END}\n")
    generation_header: str = f"{IM_START}assistant\n"
    answer_end: str = IM_END
    default_system: str | None = "You are a helpful assistant."
    system_in_user: bool = False
    begin: str = ""
    begin_token: str = ""
    image_token: str = "<|image_pad|>"
    image_before: str = ""
    image_after: str = ""
    picture_line_end: str = "\n"
    words_before: str = ""
    frame_before: str = ""
    frame_between: str = ""

    def __post_init__(self):
        for name in ("answer_end", "image_token"):
            if not getattr(self, name):
                raise ConfigError(f"a chat format needs {name}", given="no text", allowed="the name of a token")
        if self.system is None and self.default_system is not None:
            raise ConfigError(
                "a chat format without a system turn has no default_system",
                given=self.default_system,
                allowed="null, or a system turn",
            )

    def to_dict(self) -> dict:
        """For ``processor_config.json``."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping) -> ChatFormat:
        """The format that :meth:`to_dict` wrote; a field that is missing has ChatML's value.

        Raises:
            ConfigError: a field holds what it may not.
        """
        try:
            read = _RECORD.read(values, "chat_format")
        except FieldError as error:
            todo = "get the checkpoint's own processor_config.json again"
            raise error.as_error(ConfigError, "the chat format cannot be used", todo) from None
        for role in ("system", "user", "assistant"):
            if read.get(role) is not None:
                read[role] = RoleFormat(**read[role])
        return cls(**read)

    @property
    def answer_start(self) -> str:
        """What an answer itself begins with before its words, such as the space behind Vicuna's ``ASSISTANT:``."""
        header, before = self.generation_header, self.assistant.before
        return before[len(header) :] if before.startswith(header) else ""

    def frame_header(self, number: int) -> str:
        """What stands before the ``number``-th frame of a video, counted from 1."""
        return self.frame_before.replace(_NUMBER, str(number))

    @property
    def fixed_texts(self) -> tuple[str, ...]:
        """All texts of the format, in which its special tokens stand."""
        roles = [role for role in (self.system, self.user, self.assistant) if role is not None]
        around = [text for role in roles for text in (role.before, role.after)]
        own = [getattr(self, field.name) for field in fields(self) if field.name not in ("system", "user", "assistant")]
        return tuple(text for text in (*around, *own) if isinstance(text, str) and text)


CHATML = ChatFormat()
"""Qwen's, with its image token and the system line of LLaVA-OneVision's recipe."""

_TEXT: FieldType = TextField(longest=_LONGEST)
_ROLE = RecordField({"before": _TEXT, "after": _TEXT}, {"strips_words": FlagField()})
_TYPES: dict[str, FieldType] = {
    "system": NullableField(_ROLE),
    "user": _ROLE,
    "assistant": _ROLE,
    "default_system": NullableField(_TEXT),
    "system_in_user": FlagField(),
}
_RECORD = RecordField(optional={field.name: _TYPES.get(field.name, _TEXT) for field in fields(ChatFormat)})
