"""From a request's messages to the prompt that the model reads, as :class:`~laco_engines.chat.Chat` would build it."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from laco_export.conversation import IMAGE_MARK
from laco_export.errors import ImageError, UsageError

from ..prompts.prompter import Prompt, Prompter
from ..prompts.turns import PromptTurn
from ..prompts.visuals import Visual
from .chat_request import ChatRequest, ImagePart, Message
from .errors import ApiError, request_error
from .image_urls import open_image_url
from .settings import ServeSettings

MAX_CHARACTERS = 1_000_000
"""Of all texts of a request: a context of 131,072 tokens holds half of it as English. Longer ones are refused before
they are tokenised: so many characters took one to three seconds on one x86-64 core, and other requests wait."""


class Abandoned(Exception):
    """Nobody wants the prompt any more."""


def build_prompt(
    request: ChatRequest,
    prompter: Prompter,
    settings: ServeSettings,
    *,
    fetched: Mapping[str, bytes] | None = None,
    wanted: Callable[[], bool] = lambda: True,
) -> Prompt:
    """Decode the pictures and tokenise the messages.

    Args:
        fetched: the bytes of the http(s) URLs among the pictures.
        wanted: asked before each picture.

    Raises:
        ApiError: 400, with the message or picture and what was wrong with it.
        Abandoned: it is not wanted any more.
    """
    _check_order(request.messages)
    _check_sizes(request.messages, settings)
    turns: list[PromptTurn] = []
    if request.messages[0].role not in ("system", "developer"):
        turns.append(prompter.system_turn(None))
    shown = False  # an earlier turn has pictures
    for index, message in enumerate(request.messages):
        param = f"messages[{index}]"
        # As in Chat: only a picture that is alone in the first turn with pictures is tiled, and it stays so.
        alone = not shown and len(message.images) == 1 and message.images[0].detail != "low"
        visuals = _prepare(message, param, prompter, settings, fetched or {}, alone, wanted)
        try:
            turns.append(_turn(message, visuals, prompter))
        except UsageError as error:
            raise request_error(error, param=f"{param}.content", code="invalid_value") from None
        shown = shown or bool(visuals)
    try:
        return prompter.join(turns)
    except UsageError as error:
        raise request_error(error, param="messages", code="context_length_exceeded") from None


def _check_order(messages: list[Message]) -> None:
    for index, message in enumerate(messages):
        if message.role in ("system", "developer") and index > 0:
            raise ApiError(
                400, "a system message can only be the first one", param=f"messages[{index}].role", code="invalid_value"
            )
        if message.images and message.role != "user":
            raise ApiError(
                400, "only a user's message can hold pictures", param=f"messages[{index}].content", code="invalid_value"
            )
    if messages[-1].role != "user":
        raise ApiError(
            400,
            f"the last message must be the user's: it is what gets answered (given: {messages[-1].role})",
            param=f"messages[{len(messages) - 1}].role",
            code="invalid_value",
        )


def _check_sizes(messages: list[Message], settings: ServeSettings) -> None:
    pictures = sum(len(message.images) for message in messages)
    if pictures > settings.max_pictures:
        raise ApiError(
            400,
            f"the request shows too many pictures (given: {pictures}; allowed: {settings.max_pictures})",
            param="messages",
            code="too_many_images",
        )
    characters = sum(len(part.text) for message in messages for part in message.parts if part.type == "text")
    if characters > MAX_CHARACTERS:
        raise ApiError(
            400,
            f"the request's texts are too long (given: {characters:,} characters; allowed: {MAX_CHARACTERS:,})",
            param="messages",
            code="context_length_exceeded",
        )


def _prepare(message, param, prompter, settings, fetched, alone, wanted) -> list[Visual]:
    """The message's pictures for the encoder, decoded one after another: as files they are small, as pixels not."""
    visuals = []
    for index, part in enumerate(message.parts):
        if isinstance(part, ImagePart):
            if not wanted():
                raise Abandoned
            place = f"{param}.content[{index}]"
            url = part.image_url.url
            seen_as = {"alone": alone, "low_detail": part.image_url.detail == "low"}
            resized_to = prompter.preparer.resized_to(**seen_as)
            image = open_image_url(
                url, param=place, max_pixels=settings.max_pixels, fetched=fetched, resized_to=resized_to
            )
            try:
                visuals.append(prompter.preparer.picture(image, **seen_as))
            except ImageError as error:
                raise request_error(error, param=place, code="invalid_image") from None
    return visuals


def _turn(message: Message, visuals: list[Visual], prompter: Prompter) -> PromptTurn:
    text = _text(message)
    if message.role == "assistant":
        return prompter.assistant_turn(text)
    if message.role == "user":
        if not text.replace(IMAGE_MARK, "").strip():
            raise UsageError("the message has no text; ask something")
        return prompter.user_turn(text, visuals, alone=False)
    return prompter.system_turn(text)


def _text(message: Message) -> str:
    """The message's words, with marks for its pictures where they stand between words.

    Pictures that stand before or after all words come first, which is how the models were trained: OpenAI's own
    examples put the picture last, and mean nothing by it.
    """
    parts = message.parts
    words = [index for index, part in enumerate(parts) if part.type == "text"]
    pictures = [index for index, part in enumerate(parts) if part.type == "image_url"]
    between = bool(words) and any(words[0] < index < words[-1] for index in pictures)
    if not between:
        return "\n".join(parts[index].text for index in words)
    return "".join(part.text if part.type == "text" else f"{IMAGE_MARK}\n" for part in parts)
