"""Fetching a client's picture from the web, for ``--allow-fetch``, without being led into the server's own network.

The address is looked up once, checked, and connected to: a name that resolves to something else a moment later (DNS
rebinding) changes nothing. Redirects are followed by hand, and each is checked like the first URL.
"""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from urllib.parse import urljoin, urlsplit

from .errors import ApiError

MAX_REDIRECTS = 3
TIMEOUT_S = 15.0
_CHUNK = 64 << 10

# Prefixes by which an IPv6 address stands for an IPv4 one, which may be a private one (NAT64, 6to4, Teredo).
_TRANSLATED = [ipaddress.ip_network(prefix) for prefix in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32")]

Resolve = Callable[[str, int], list[str]]


def fetch_picture(
    url: str, *, max_bytes: int, param: str, timeout_s: float = TIMEOUT_S, resolve: Resolve | None = None
) -> bytes:
    """The bytes at an http(s) URL on a public address.

    Args:
        max_bytes: more are not read.
        param: the URL's place in the request, for messages.
        timeout_s: for all of it, redirects included.
        resolve: host and port to IP addresses; default: the system's.

    Raises:
        ApiError: 400: another scheme, an address that is not public, too many bytes or redirects, or no success.
    """
    end = time.monotonic() + timeout_s
    for _ in range(MAX_REDIRECTS + 1):
        host, port, tls, path = _parse(url, param)
        try:
            address = _public_address(host, port, param, resolve or _resolve)
            reply = _get(host, port, tls, path, address, max_bytes, end, param)
        except (OSError, http.client.HTTPException, ValueError) as error:
            reason = "timed out" if isinstance(error, TimeoutError) or time.monotonic() > end else type(error).__name__
            raise _failed(param, f"the picture could not be fetched from {host}: {reason}") from None
        if isinstance(reply, bytes):
            return reply
        url = urljoin(url, reply)
    raise _failed(param, f"more than {MAX_REDIRECTS} redirects")


def _parse(url: str, param: str) -> tuple[str, int, bool, str]:
    """Host, port, whether by TLS, and the path with the query."""
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        host = (parts.hostname or "").encode("idna").decode("ascii")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        path.encode("ascii")
    except ValueError:
        raise _failed(param, "the URL cannot be read") from None
    if parts.scheme not in ("http", "https") or not host:
        raise _failed(param, "only http and https URLs are fetched")
    if parts.username is not None or parts.password is not None:
        raise _failed(param, "a URL with a name or a password is not fetched")
    return host, port, parts.scheme == "https", path


def _resolve(host: str, port: int) -> list[str]:
    return [info[4][0] for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


def _public_address(host: str, port: int, param: str, resolve: Resolve) -> str:
    """An address of the host, all of whose addresses are public."""
    addresses = resolve(host, port)
    if not addresses or not all(map(is_public, addresses)):
        raise _failed(param, f"{host} is not on a public address")
    return addresses[0]


def is_public(address: str) -> bool:
    """The address is one of the internet's: not private, loopback, link-local, multicast or a way round to one."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped is not None:
            return is_public(str(ip.ipv4_mapped))
        if any(ip in network for network in _TRANSLATED):
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


def _get(host, port, tls, path, address, max_bytes, end, param) -> bytes | str:
    """The body, or where a redirect leads."""
    connection = _Pinned(host, port, address, tls, timeout=max(0.1, end - time.monotonic()))
    # A socket's timeout is for each read: this is for a server that sends a byte a second.
    cut_off = threading.Timer(max(0.1, end - time.monotonic()), connection.cut_off)
    cut_off.daemon = True
    cut_off.start()
    try:
        connection.request(
            "GET", path, headers={"Accept": "image/*", "Accept-Encoding": "identity", "User-Agent": "laco-engine"}
        )
        response = connection.getresponse()
        location = response.headers.get("Location")
        if response.status in (301, 302, 303, 307, 308) and location:
            return location
        if response.status != 200:
            raise _failed(param, f"{host} answered with status {response.status}")
        data = bytearray()
        while chunk := response.read1(_CHUNK):
            data += chunk
            if len(data) > max_bytes:
                raise _failed(param, f"the picture is larger than {max_bytes:,} bytes")
        # A body without a stated length ends with its connection, whoever closes it.
        if response.length or time.monotonic() >= end:
            raise http.client.IncompleteRead(bytes(data), response.length)
        return bytes(data)
    finally:
        cut_off.cancel()
        connection.close()


class _Pinned(http.client.HTTPConnection):
    """A connection to an address that was checked, whatever the host's name resolves to by now."""

    def __init__(self, host: str, port: int, address: str, tls: bool, timeout: float):
        # http.client leaves the default port out of the Host header.
        self.default_port = 443 if tls else 80
        super().__init__(host, port, timeout=timeout)
        self._address, self._tls = address, tls
        self._opened: socket.socket | None = None  # http.client hands self.sock over to a response without a length

    def connect(self) -> None:
        self._opened = self.sock = socket.create_connection((self._address, self.port), self.timeout)
        if self._tls:
            self._opened = self.sock = ssl.create_default_context().wrap_socket(self.sock, server_hostname=self.host)

    def cut_off(self) -> None:
        if self._opened is not None:
            with suppress(OSError):  # it was closed meanwhile
                self._opened.shutdown(socket.SHUT_RDWR)


def _failed(param: str, reason: str) -> ApiError:
    return ApiError(400, f"{param}: {reason}", param=param, code="invalid_image_url")
