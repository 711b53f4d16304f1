"""What ``laco-engine serve`` may be told; validated where it is made."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from urllib.parse import urlsplit

from laco_export.errors import UsageError

from ..generation.options import GenerationOptions

LOOPBACK_NAMES = ("localhost", "127.0.0.1", "[::1]")
"""Hosts by which a browser on this machine names this machine; no name service can give them to another site."""


@dataclass(frozen=True)
class ServeSettings:
    """The server's limits and who may use it.

    Attributes:
        host, port: where it listens; port 0 takes a free one.
        api_key: what clients must send as ``Authorization: Bearer``; needed where ``host`` is not loopback.
        queue: requests that may wait for their answer beside the one that is being answered.
        timeout_s: the longest that a request may take, its waiting included.
        drain_s: how long a shutdown waits for the requests that it finds.
        max_body_bytes: of a request: 20 MiB hold a 15 MB picture in base64.
        max_pixels: of a picture, read from its header: 50 megapixels take 200 MB while they are scaled down, and at
            most 450 MB (:mod:`laco_export.decoding_limits`).
        max_pictures: of a request, its earlier turns included.
        max_new_tokens: the longest answer; a request that asks for more gets this many.
        allow_fetch: fetch ``http(s)`` pictures from public addresses. Without it no client's URL is ever opened.
        allowed_hosts: further values of the ``Host`` header that are answered without an API key.
        allowed_origins: web pages of other origins that may call the server (CORS).
        prompt_lookup: of all answers, as :attr:`GenerationOptions.prompt_lookup`; ``exact`` leaves sampled ones alone.

    Raises:
        UsageError: a value outside what it may be; the message names the flag.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = None
    queue: int = 32
    timeout_s: float = 120.0
    drain_s: float = 30.0
    max_body_bytes: int = 20 << 20
    max_pixels: int = 50_000_000
    max_pictures: int = 16
    max_new_tokens: int = 1024
    allow_fetch: bool = False
    allowed_hosts: tuple[str, ...] = ()
    allowed_origins: tuple[str, ...] = ()
    prompt_lookup: str | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise UsageError(
                "--port is no port number", given=self.port, allowed="0 to 65535, where 0 takes a free one"
            )
        for flag, value in (("--timeout", self.timeout_s), ("--drain", self.drain_s)):
            if not 0 < value < float("inf"):
                raise UsageError(f"{flag} must be a number of seconds above 0", given=value)
        GenerationOptions(prompt_lookup=self.prompt_lookup)
        self._check_key()
        for origin in self.allowed_origins:
            parts = urlsplit(origin)
            if (
                parts.scheme not in ("http", "https")
                or origin != f"{parts.scheme}://{parts.netloc}"
                or not parts.netloc
            ):
                raise UsageError(
                    "--allow-origin is no web origin", given=origin, allowed="https://app.example.org, without a path"
                )

    def _check_key(self) -> None:
        key = self.api_key
        if key is not None and (not key or not key.isascii() or not key.isprintable() or " " in key):
            raise UsageError(
                "the API key is empty, or holds what an HTTP header cannot", allowed="ASCII without spaces"
            )
        if key is None and not self.loopback:
            raise UsageError(
                f"--host {self.host} can be reached from other machines, and there is no API key",
                allowed="an API key from --api-key or the environment's LACO_API_KEY, or --host 127.0.0.1",
                todo="export LACO_API_KEY=\"$(python -c 'import secrets; print(secrets.token_urlsafe(32))')\"",
            )

    @property
    def loopback(self) -> bool:
        """Only this machine can reach the server."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:  # another name: what it resolves to may change
            return False

    @property
    def places(self) -> int:
        """Requests that are held at once: the one that is answered and those that wait."""
        return self.queue + 1
