"""Reading a request's body within its limits."""

from __future__ import annotations

import asyncio
import mmap

from starlette.requests import ClientDisconnect, Request

from .errors import ApiError, client_gone

BODY_S = 30.0
"""For the whole body: 20 MiB at 5.6 Mbit/s. Its sender holds a place in the queue meanwhile."""


async def read_body(request: Request, limit: int) -> bytes:
    """The JSON body of a request.

    No more than ``limit`` bytes of it are ever held: a body that says its length is refused unread, another one when
    it grows past the limit. What still comes of it uvicorn reads and throws away, so that the client, who may send
    all of it before it looks, finds the answer.

    Raises:
        ApiError: 413, 408, 415, or the client went away.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise ApiError(415, f"the body must be JSON (given: content-type {media[:60]!r}; allowed: application/json)")
    stated = request.headers.get("content-length", "")
    if stated.isdigit() and int(stated) > limit:
        raise _too_large(limit)
    try:
        return await asyncio.wait_for(_read(request, limit), BODY_S)
    except asyncio.TimeoutError:
        message = f"the body did not arrive within {BODY_S:g} s"
        raise ApiError(408, message, headers={"connection": "close"}) from None
    except ClientDisconnect:
        raise client_gone() from None


async def _read(request: Request, limit: int) -> bytes:
    # A mapping goes back to the system when it is closed. With a bytearray the memory of refused bodies came back late
    # or not at all: 1,000 requests, 20 of them of 100 MB, left 40 MB more in use (benchmarks/serve_load.py).
    with mmap.mmap(-1, limit) as body:
        async for chunk in request.stream():
            if body.tell() + len(chunk) > limit:
                raise _too_large(limit)
            body.write(chunk)
        return body[: body.tell()]


def _too_large(limit: int) -> ApiError:
    message = f"the body is larger than {limit:,} bytes; send smaller or fewer pictures"
    return ApiError(413, message, code="body_too_large")
