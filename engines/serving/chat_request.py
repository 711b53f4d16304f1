"""The body of ``POST /v1/chat/completions``: OpenAI's fields, those that this server honours.

A field that would change the answer and cannot be honoured is refused, never ignored; with the value that changes
nothing (``n: 1``, ``tools: []``) it passes, since clients send their defaults. null is as good as absent.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator

from ..generation.options import GenerationOptions
from .errors import ApiError

MAX_MESSAGES = 2048
"""A turn takes five tokens at least, so that a context of 32,768 tokens holds 6,500 of the shortest; a chat of this
many turns would fill it with 16 tokens each."""

_NEUTRAL: dict[str, tuple] = {
    "n": (1,),
    "logit_bias": ({},),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "function_call": ("none", "auto"),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "store": (False,),
}
"""OpenAI's fields that cannot be honoured, each with the values that ask for nothing."""

_IGNORED = (
    "user",
    "metadata",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "parallel_tool_calls",
)
"""OpenAI's fields that do not change an answer."""

_INSTEAD = {
    "n": "send the request several times, each with its own seed",
}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        return {name: value for name, value in fields.items() if value is not None}


class TextPart(_Strict):
    type: Literal["text"]
    text: str


class ImageUrl(_Strict):
    """``url``: a ``data:`` URL, or http(s) where the server may fetch. ``detail`` ``low``: one tile, never several."""

    url: str
    detail: Literal["auto", "low", "high"] = "auto"


class ImagePart(_Strict):
    type: Literal["image_url"]
    image_url: ImageUrl


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]

_TAGS = ("words", "parts")


class Message(_Strict):
    """A turn; ``developer`` is the newer name of ``system``."""

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[
        Annotated[str, Tag("words")] | Annotated[list[Part], Tag("parts")],
        Discriminator(lambda content: "words" if isinstance(content, str) else "parts"),
    ]
    name: str | None = None  # OpenAI's, of a participant; the chat format has no place for it

    @property
    def parts(self) -> list[TextPart | ImagePart]:
        return [TextPart(type="text", text=self.content)] if isinstance(self.content, str) else self.content

    @property
    def images(self) -> list[ImageUrl]:
        return [part.image_url for part in self.parts if isinstance(part, ImagePart)]


class StreamOptions(_Strict):
    include_usage: bool = False
    include_obfuscation: bool = False  # padding against eavesdroppers; asks for nothing that an answer needs


class ChatRequest(_Strict):
    """A chat-completion request."""

    messages: Annotated[list[Message], Field(min_length=1, max_length=MAX_MESSAGES)]
    model: str | None = None
    depth: str | None = None  # ours: of a bundle of several
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] = 0.0
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0)] | None = None
    min_p: Annotated[float, Field(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=10)] | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] = 0.0
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    logprobs: bool = False
    top_logprobs: Annotated[int, Field(ge=0, le=20)] = 0
    stop: Annotated[
        Annotated[str, Tag("words"), Field(min_length=1)]
        | Annotated[list[Annotated[str, Field(min_length=1)]], Tag("parts"), Field(max_length=4)],
        Discriminator(lambda stop: "words" if isinstance(stop, str) else "parts"),
    ] = Field(default_factory=list)

    @model_validator(mode="before")
    @classmethod
    def _refuse_what_is_not_honoured(cls, fields: Any) -> Any:
        if not isinstance(fields, dict):
            return fields
        for name, neutral in _NEUTRAL.items():
            value = fields.get(name)
            if value is not None and not any(value == v and type(value) in _like(v) for v in neutral):
                hint = f"; {_INSTEAD[name]}" if name in _INSTEAD else ""
                raise _Unsupported(f"{name} is not supported by this server{hint}", name)
        return {name: value for name, value in fields.items() if name not in _NEUTRAL and name not in _IGNORED}

    @property
    def include_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage

    def generation_options(self, most: int, prompt_lookup: str | None = None) -> GenerationOptions:
        """How to answer, with at most ``most`` new tokens, and by the server's prompt lookup where it can be used.

        A request for more gets ``most``, and where that ends the answer its ``finish_reason`` says ``length``:
        clients send large numbers to say "no limit".
        """
        wanted = self.max_completion_tokens or self.max_tokens or most
        sampled = self.temperature > 0
        return GenerationOptions(
            max_new_tokens=min(wanted, most),
            temperature=self.temperature,
            # Of the best token alone there is nothing to choose from: OpenAI's clients send top_p all the same.
            top_p=self.top_p if sampled else None,
            top_k=self.top_k if sampled else None,
            min_p=self.min_p if sampled else None,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            seed=self.seed,
            stop=(self.stop,) if isinstance(self.stop, str) else tuple(self.stop),
            prompt_lookup=None if sampled and prompt_lookup == "exact" else prompt_lookup,
        )


class _Unsupported(ValueError):
    def __init__(self, message: str, param: str):
        super().__init__(message)
        self.param = param


def parse_chat_request(body: bytes) -> ChatRequest:
    """Read a request's body.

    Raises:
        ApiError: 400, with the field and what was wrong with it.
    """
    try:
        request = ChatRequest.model_validate_json(body)
    except ValidationError as error:
        raise _first_problem(error) from None
    if request.max_tokens and request.max_completion_tokens and request.max_tokens != request.max_completion_tokens:
        raise ApiError(400, "max_tokens and max_completion_tokens differ; give one of them", param="max_tokens")
    if request.top_logprobs and not request.logprobs:
        raise ApiError(400, "top_logprobs needs logprobs: true", param="top_logprobs")
    if request.stream_options is not None and not request.stream:
        raise ApiError(400, "stream_options needs stream: true", param="stream_options")
    return request


def _like(value: Any) -> tuple[type, ...]:
    """Types that a neutral value may come as: 0 may be 0.0, but false is no 0."""
    return (int, float) if type(value) is int else (type(value),)


def _first_problem(error: ValidationError) -> ApiError:
    """The first of pydantic's errors in OpenAI's form."""
    problem = error.errors(include_url=False)[0]
    if problem["type"] == "json_invalid":
        return ApiError(400, f"the body is no JSON: {problem['ctx']['error']}", code="invalid_json")
    inner = problem.get("ctx", {}).get("error")
    if isinstance(inner, _Unsupported):
        return ApiError(400, str(inner), param=inner.param, code="unsupported_parameter")
    param = _path(problem["loc"])
    if problem["type"] == "extra_forbidden":
        return ApiError(400, f"unrecognised field: {param}", param=param, code="unknown_parameter")
    return ApiError(400, f"{param or 'the body'}: {problem['msg']}", param=param or None, code="invalid_value")


def _path(location: tuple) -> str:
    """``("messages", 0, "content", "parts", 1, "image_url", "url")`` as ``messages[0].content[1].image_url.url``."""
    path = ""
    # Union tags stand after their field, and a part's type before its fields: neither is in the client's document.
    for index, step in enumerate(location):
        if isinstance(step, int):
            path += f"[{step}]"
        elif step in _TAGS or (step in ("text", "image_url") and isinstance(location[index - 1], int)):
            continue
        else:
            path += f".{step}" if path else step
    return path
