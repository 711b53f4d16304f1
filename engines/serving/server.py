"""Running the application: the socket, the signals and the end."""

from __future__ import annotations

import asyncio
import errno
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import uvicorn

from laco_export.bundle import Bundle
from laco_export.console import say
from laco_export.errors import LacoError, UsageError

from ..answering import Answerer
from ..prompts.prompter import Prompter
from .app import make_app
from .governed import GovernedDepths
from .service import Service
from .settings import ServeSettings

CONNECTIONS = 512
"""Open at once; further ones get 503. Each may buffer 64 KiB before its request has a place in the queue."""

_LEAVE_S = 5.0  # for cancelled requests to say so, and for the worker to come to its next token


def serve(
    bundle: Bundle,
    prompter: Prompter,
    settings: ServeSettings,
    *,
    load: Callable[[], Answerer],
    model: str,
    at: str | None = None,
    governed: GovernedDepths | None = None,
    listener: socket.socket,
) -> None:
    """Serve until SIGTERM or SIGINT, then answer what is held and return.

    Args:
        load: makes the answerer, in the worker's thread; until it is done, requests get 503.
        model: the id by which clients name the bundle.
        at: the depth of requests that name none; None takes the bundle's first.
        governed: chooses it for each of them, in the place of ``at``.
        listener: of :func:`bind`.

    Raises:
        LacoError: the models could not be loaded.
    """
    failure: list[BaseException] = []

    def on_loaded(answerer: Answerer | BaseException) -> None:
        if isinstance(answerer, BaseException):
            failure.append(answerer)
            server.should_exit = True
        else:
            _announce(settings, model, listener, answerer)

    depths = {"at": at, "governed": governed}
    service = Service(bundle, prompter, settings, load=load, model=model, **depths, on_loaded=on_loaded)
    config = uvicorn.Config(
        make_app(service),
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,  # its errors reach stderr by logging's last resort
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=round(settings.drain_s + _LEAVE_S),
    )
    server = Server(config, service)
    service.start()
    try:
        server.run(sockets=[listener])
    finally:
        service.stop(_LEAVE_S)
    if failure:
        raise failure[0]


def bind(host: str, port: int) -> socket.socket:
    """A socket for the server, before anything is loaded; it listens when the server runs.

    Raises:
        UsageError, LacoError: the address cannot be had.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError):
        raise UsageError(
            f"--host '{host}' is no address of this machine", allowed="127.0.0.1, ::1, 0.0.0.0, …"
        ) from None
    listener = socket.socket(family, kind, protocol)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(address)
        listener.listen(128)  # a port in use is found here, where two programs have set SO_REUSEADDR
    except OSError as error:
        listener.close()
        raise _cannot_bind(host, port, error) from None
    return listener


def _cannot_bind(host: str, port: int, error: OSError) -> LacoError:
    if error.errno == errno.EADDRINUSE:
        return LacoError(f"port {port} on {host} is in use", todo="choose another --port; 0 takes a free one")
    if error.errno == errno.EACCES:
        return LacoError(f"port {port} on {host} may not be used by this user", allowed="1024 and above")
    if error.errno == errno.EADDRNOTAVAIL:
        return UsageError(f"--host '{host}' is no address of this machine", allowed="127.0.0.1, ::1, 0.0.0.0, …")
    return LacoError(f"port {port} on {host} cannot be opened: {error.strerror}")


class Server(uvicorn.Server):
    """uvicorn, whose end by a signal is a success: what is held is answered first.

    The first SIGTERM or SIGINT drains the queue, for as long as ``--drain`` says; a second one does not wait.
    """

    def __init__(self, config: uvicorn.Config, service: Service):
        super().__init__(config)
        self._service, self._drain_s = service, service.settings.drain_s

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM, signal.SIGINT)
        for number in signals:
            loop.add_signal_handler(number, self._end)
        try:
            yield
        finally:
            for number in signals:
                loop.remove_signal_handler(number)

    def _end(self) -> None:
        if self.should_exit:
            self._service.cancel_all()
            self.force_exit = True
            return
        held = self._service.held
        say(f"shutting down: {held} request{'s' * (held != 1)} to answer")
        self.should_exit = True
        self._service.drain()
        asyncio.get_running_loop().call_later(self._drain_s, self._service.cancel_all)


def _announce(settings: ServeSettings, model: str, listener: socket.socket, answerer: Answerer) -> None:
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    url = f"http://{host}:{listener.getsockname()[1]}"
    say(
        f"serving {model} on {answerer.vision.name} and {answerer.text.name}\n"
        f"  page  {url}/\n  API   {url}/v1   (OpenAI's chat completions)\n"
        f"  key   {'needed' if settings.api_key else 'none: only this machine can ask'}",
    )
