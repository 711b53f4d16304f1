"""Answers in OpenAI's form: one ``chat.completion``, or a stream of ``chat.completion.chunk`` events."""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from contextlib import ExitStack, suppress

from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from ..answering import Answer
from .chat_request import ChatRequest
from .errors import ApiError
from .logprobs import SentLogprobs
from .worker import Job

DEPTH_HEADER = "x-laco-depth"

SLOW_READER_S = 10.0
"""How long past its deadline a client may take to read what is ready."""


def error_response(error: ApiError) -> JSONResponse:
    """The response of an error, with its status and headers."""
    return JSONResponse(error.body(), error.status, headers=error.headers)


class Completion:
    """What all documents about one answer share.

    Args:
        model: the served model's id.
        fingerprint: of the weights and what runs them: equal fingerprints and seeds give equal answers.
        depth: that answers, where the bundle has several.
    """

    def __init__(self, request: ChatRequest, model: str, fingerprint: str, depth: str | None = None):
        self._request, self._model, self._fingerprint, self._depth = request, model, fingerprint, depth
        self._id, self._created = f"chatcmpl-{uuid.uuid4().hex}", int(time.time())

    @property
    def headers(self) -> dict[str, str]:
        """Of the response, whole or a stream."""
        return {} if self._depth is None else {DEPTH_HEADER: self._depth}

    def whole(self, job: Job, text: str, logprobs: dict | None = None) -> dict:
        """The ``chat.completion`` of a finished job."""
        message = {"role": "assistant", "content": text, "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": logprobs, "finish_reason": job.answer.finish}
        return self._document("chat.completion", [choice]) | {
            "usage": usage(job.answer),
            "timings": timings(job),
        }

    def chunk(self, delta: dict, *, finish: str | None = None, logprobs: dict | None = None, **further) -> dict:
        choice = {"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        # OpenAI's: where usage was asked for, every chunk but the last says null.
        empty = {"usage": None} if self._request.include_usage else {}
        return self._document("chat.completion.chunk", [choice]) | empty | further

    def usage_chunk(self, job: Job) -> dict:
        return self._document("chat.completion.chunk", []) | {"usage": usage(job.answer)}

    def _document(self, kind: str, choices: list[dict]) -> dict:
        return {
            "id": self._id,
            "object": kind,
            "created": self._created,
            "model": self._model,
            "system_fingerprint": self._fingerprint,
            **({} if self._depth is None else {"depth": self._depth}),
            "choices": choices,
        }


def usage(answer: Answer) -> dict:
    """OpenAI's ``usage``; ``cached_tokens`` were in the KV cache of an earlier prompt."""
    prompt, completion = answer.prompt_tokens, len(answer.token_ids)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": answer.cached_tokens},
    }


def timings(job: Job) -> dict:
    """Ours, beside OpenAI's fields: where the time went, and what repeats a sampled answer."""
    measured = job.answer.timings
    speed, per_pass = measured.decode_tokens_per_s, measured.decode_tokens_per_pass
    return {
        "queue_ms": round(1000 * (job.started - job.created), 1),  # receiving and preparing included
        "encode_ms": round(measured.encode_ms, 1),
        "prefill_ms": round(measured.prefill_ms, 1),
        "decode_tokens_per_s": None if speed is None else round(speed, 1),
        **({} if per_pass is None else {"decode_tokens_per_pass": round(per_pass, 2)}),
        "seed": job.answer.seed,
    }


class EventStream(Response):
    """An answer as server-sent events, ``data: [DONE]`` last; sent while it is generated.

    The headers wait for the first piece of the answer: until then an error still has its own status. After it an
    error is an event of its own, which OpenAI's clients raise.

    Args:
        logprobs: of its text, where they were asked for.
        held: closed when the stream ends, however it ends.
    """

    def __init__(
        self,
        job: Job,
        completion: Completion,
        *,
        include_usage: bool,
        logprobs: SentLogprobs | None = None,
        held: ExitStack,
    ):
        # The second one keeps nginx from collecting the events.
        headers = {"cache-control": "no-store", "x-accel-buffering": "no", **completion.headers}
        super().__init__(media_type="text/event-stream", headers=headers)
        # Response() has set the length of an empty body.
        self.raw_headers = [(name, value) for name, value in self.raw_headers if name != b"content-length"]
        self._job, self._completion, self._include_usage, self._held = job, completion, include_usage, held
        self._logprobs = logprobs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._held, suppress(asyncio.TimeoutError):  # a stream that is not completed is closed by uvicorn
            await self._send_all(scope, receive, send)

    async def _send_all(self, scope: Scope, receive: Receive, send: Send) -> None:
        texts = self._job.texts()
        try:
            first = await anext(texts, None)
        except ApiError as error:
            await error_response(error)(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        await self._event(send, self._completion.chunk({"role": "assistant", "content": ""}))
        try:
            if first is not None:
                await self._piece(send, first)
            async for text in texts:
                await self._piece(send, text)
        except ApiError as error:
            await self._event(send, error.body())
        else:
            finish = self._job.answer.finish
            await self._event(send, self._completion.chunk({}, finish=finish, timings=timings(self._job)))
            if self._include_usage:
                await self._event(send, self._completion.usage_chunk(self._job))
            await self._send(send, "[DONE]")
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _piece(self, send: Send, text: str) -> None:
        logprobs = None if self._logprobs is None else self._logprobs.behind(text)
        await self._event(send, self._completion.chunk({"content": text}, logprobs=logprobs))

    async def _event(self, send: Send, document: dict) -> None:
        await self._send(send, json.dumps(document, ensure_ascii=False))

    async def _send(self, send: Send, data: str) -> None:
        message = {"type": "http.response.body", "body": f"data: {data}\n\n".encode(), "more_body": True}
        # send() waits while the client does not read; it may hold its place in the queue so long and no longer.
        await asyncio.wait_for(send(message), max(0.0, self._job.deadline - time.monotonic()) + SLOW_READER_S)
