"""A client of the application in this process, without a socket."""

import asyncio
import json
from dataclasses import dataclass, field

from .messages import user


@dataclass
class Reply:
    status: int = 0
    headers: dict = field(default_factory=dict)
    body: bytes = b""

    @property
    def json(self) -> dict:
        return json.loads(self.body)

    @property
    def error(self) -> dict:
        return self.json["error"]


class Client:
    """One ASGI client of an application.

    The event ``leave`` is its going away, and without the event ``reads`` it takes nothing of the body.
    """

    def __init__(self, app):
        self._app = app

    async def request(self, method, path, headers=None, chunks=(b"",), leave=None, reads=None) -> Reply:
        headers = {"host": "localhost:8000", **(headers or {})}
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": path.partition("?")[0],
            "raw_path": path.encode(),
            "query_string": path.partition("?")[2].encode(),
            "root_path": "",
            "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()],
            "client": ("127.0.0.1", 1),
            "server": ("127.0.0.1", 8000),
        }
        left, reply, rest = leave or asyncio.Event(), Reply(), list(chunks)

        async def receive():
            if rest:
                chunk = rest.pop(0)
                if callable(chunk):
                    chunk = await chunk()
                return {"type": "http.request", "body": chunk, "more_body": bool(rest)}
            await left.wait()
            return {"type": "http.disconnect"}

        async def send(message):
            if message["type"] == "http.response.start":
                reply.status = message["status"]
                reply.headers = {name.decode(): value.decode() for name, value in message["headers"]}
            else:
                if reads is not None:
                    await reads.wait()
                reply.body += message.get("body", b"")

        await self._app(scope, receive, send)
        reply.taken = len(chunks) - len(rest)
        return reply

    async def ask(self, messages=None, *, leave=None, reads=None, headers=None, **fields) -> Reply:
        body = json.dumps({"messages": messages or [user("Hi?")], **fields}).encode()
        headers = {"content-type": "application/json", **(headers or {})}
        return await self.request("POST", "/v1/chat/completions", headers, [body], leave, reads)
