"""A chat template from a chat format, for transformers' ``apply_chat_template``."""

from __future__ import annotations

from ..chat_format import ChatFormat, RoleFormat
from ..conversation import turn_text


def chat_template_of(chat_format: ChatFormat) -> str:
    """A jinja template that writes ``chat_format``, for messages of text or of transformers' typed parts."""
    parts = (
        "{% if message['content'] is string %}{% set parts = [{'type': 'text', 'text': message['content']}] %}"
        "{% else %}{% set parts = message['content'] %}{% endif %}"
    )
    marks = (
        "{% for part in parts %}{% if part['type'] != 'text' %}{{ '<' + part['type'] + '>' }}"
        + _written(chat_format.picture_line_end)
        + "{% endif %}{% endfor %}"
    )
    default = ""
    if chat_format.default_system is not None:
        default = "{% if messages[0]['role'] != 'system' %}" + _written(_default_turn(chat_format)) + "{% endif %}"
    inside = chat_format.system_in_user
    following = "{% if loop.index0 != 1 or messages[0]['role'] != 'system' %}" if inside else ""
    before_question = following + _written(chat_format.user.before) + ("{% endif %}" if inside else "")
    system = chat_format.system
    first = ""
    if system is not None:
        before = (chat_format.user.before if inside else "") + system.before
        first = "{% if message['role'] == 'system' %}" + _written(before) + _words(system) + _written(system.after)
    else:
        first = "{% if message['role'] == 'system' %}{{ raise_exception('there is no system line') }}"
    return (
        _written(chat_format.begin)
        + default
        + "{% for message in messages %}"
        + parts
        + first
        + "{% elif message['role'] == 'user' %}"
        + before_question
        + marks
        + _written(chat_format.words_before)
        + _words(chat_format.user)
        + _written(chat_format.user.after)
        + "{% else %}"
        + _written(chat_format.assistant.before)
        + _words(chat_format.assistant)
        + _written(chat_format.assistant.after)
        + "{% endif %}{% endfor %}{% if add_generation_prompt %}"
        + _written(chat_format.generation_header)
        + "{% endif %}"
    )


def _written(value: str) -> str:
    """A jinja expression that writes ``value``."""
    quoted = value.encode("unicode_escape").decode("ascii").replace("'", "\\'")
    return f"{{{{ '{quoted}' }}}}" if value else ""


def _words(role: RoleFormat) -> str:
    stripped = " | trim" if role.strips_words else ""
    return (
        "{% for part in parts %}{% if part['type'] == 'text' %}"
        f"{{{{ part['text']{stripped} }}}}"
        "{% endif %}{% endfor %}"
    )


def _default_turn(chat_format: ChatFormat) -> str:
    return turn_text("system", chat_format.default_system, chat_format)
