"""The chat format of a language model whose tokenizer lacks ChatML's tokens: that of its own chat template.

Such a model (Llama 3's, for one) was taught other turns, and its tokenizer has no tokens for ChatML's. Its template is
read as a published vision-language model's is (:mod:`.chat_template`), and pictures, of which it knows nothing, come as
ChatML has them here: the tokens of ``<|image_pad|>`` on a line of their own before the words.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ..chat_format import ChatFormat
from ..conversation import IMAGE_TOKEN, SPECIAL_TOKEN, render
from ..errors import CheckpointError
from .chat_template import asks_the_day, chat_format_of, stated_chat_template
from .vocabulary import check_whole_tokens, lacks_chatml, restore_special_tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


class OwnChatFormat(NamedTuple):
    """A chat format, and a sentence about each thing that it is not as the template has it."""

    chat_format: ChatFormat
    changes: tuple[str, ...]


def own_chat_format(tokenizer: PreTrainedTokenizerFast, folder: Path) -> OwnChatFormat:
    """The format of the folder's template, with a fixed date where the template asks for the day's.

    A date that changes would be other tokens every day, in training and on the device. Templates that ask for one have
    another to fall back to where there is no clock, and that one stays.

    Args:
        tokenizer: without ChatML's tokens; tokens of its template that are ordinary text are made special, in place.
        folder: the language model's.

    Raises:
        CheckpointError: the folder has no chat template, or one that is more than text around turns.
    """
    template = stated_chat_template(folder)
    if template is None:
        raise CheckpointError(
            f"the tokenizer of '{folder}' lacks {', '.join(lacks_chatml(tokenizer))}, and the folder has no chat "
            "template: nothing says in which turns its model was taught to answer",
            allowed="a language model taught ChatML, such as Qwen2.5, Qwen3 and SmolLM2, or one with a chat template",
            todo="take the model that follows instructions (…-Instruct, …-chat) in place of its base; or add the "
            "template that its publisher documents, as chat_template.jinja",
        )
    turn_tokens = {token for token in SPECIAL_TOKEN.findall(template) if token in tokenizer.get_vocab()}
    restored = restore_special_tokens(tokenizer, turn_tokens)
    try:
        chat_format = chat_format_of(template, tokenizer, image_token=IMAGE_TOKEN, without_clock=True)
    except CheckpointError as error:
        named = f"the language model of '{folder}' was not taught ChatML, and {error.failed}"
        raise CheckpointError(named, given=error.given, allowed=error.allowed, todo=error.todo) from error
    check_whole_tokens(tokenizer, folder, sorted(turn_tokens))
    asked = render([("user", "?")], add_generation_prompt=True, chat_format=chat_format)
    changes = [*restored, f"its tokenizer lacks ChatML's tokens: it is asked in its own chat format, {asked!r}"]
    if asks_the_day(template):
        changes.append("its own chat template writes the day's date; here the date that it falls back to stands always")
    return OwnChatFormat(chat_format, tuple(changes))
