"""Who may use the server: checked from the headers, before a byte of the body is read.

Anybody's web page can make a browser send requests to ``http://127.0.0.1:8000``, so loopback alone is no protection:

- ``Origin`` says which page sends a request. Only this server's own page and ``--allow-origin`` are answered.
- ``Host`` says which name the browser took the server for. A page of evil.example whose name suddenly resolves to
  127.0.0.1 (DNS rebinding) is of the same origin as the server, but its requests still name evil.example.
- With an API key the key decides, and any ``Host`` is answered: another page does not know it.
"""

from __future__ import annotations

import hashlib
import hmac

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from .chat_response import error_response
from .errors import ApiError
from .settings import LOOPBACK_NAMES, ServeSettings

OPEN_PATHS = ("/", "/page.css", "/page.js", "/health", "/health/live", "/health/ready")
"""Answered without a key: the page, which asks the person for it, and what an orchestrator polls."""


class Access:
    """Middleware that answers requests which may not pass with 401 or 403."""

    def __init__(self, app: ASGIApp, *, settings: ServeSettings):
        self.app, self._settings = app, settings
        self._names = {*LOOPBACK_NAMES, settings.host, *(host.lower() for host in settings.allowed_hosts)}
        key = settings.api_key
        self._key = None if key is None else hashlib.sha256(key.encode()).digest()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._check(scope["path"], Headers(scope=scope))
            except ApiError as error:
                await error_response(error)(scope, receive, send)
                return
        await self.app(scope, receive, send)

    def _check(self, path: str, headers: Headers) -> None:
        host = headers.get("host", "").lower()
        if self._key is None and _without_port(host) not in self._names:
            raise ApiError(
                403,
                f"this server does not answer to the name {host[:100]!r}; start it with --allow-host to change that",
                code="host_not_allowed",
            )
        origin = headers.get("origin")
        own = (f"http://{host}", f"https://{host}")
        if origin is not None and origin.lower() not in own and origin not in self._settings.allowed_origins:
            raise ApiError(
                403,
                f"pages of {origin[:100]!r} may not use this server; start it with --allow-origin to change that",
                code="origin_not_allowed",
            )
        if self._key is not None and path not in OPEN_PATHS:
            self._check_key(headers.get("authorization", ""))

    def _check_key(self, authorization: str) -> None:
        scheme, _, key = authorization.partition(" ")
        # Digests are of one length, so the comparison takes one time whatever was sent.
        digest = hashlib.sha256(key.strip().encode()).digest()
        if scheme.lower() != "bearer" or not hmac.compare_digest(digest, self._key):
            reason = "is wrong" if authorization else "is missing"
            raise ApiError(
                401,
                f"the API key {reason}: send it as 'Authorization: Bearer KEY'",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )


def _without_port(host: str) -> str:
    name, colon, port = host.rpartition(":")
    return name if colon and port.isdigit() else host
