import asyncio
import base64
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import pytest

ASSETS = Path(__file__).resolve().parents[2] / "assets"
HELD_OUT = ASSETS / "tiny-heldout"

pytest.importorskip("fastapi", reason="needs the extra 'serve'")


def data_url(data: bytes, mime: str = "image/png") -> str:
    return f"data:{mime};base64,{base64.b64encode(data).decode()}"


def png(picture) -> bytes:
    buffer = BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def user(text: str, *urls: str) -> dict:
    """A user's message with its pictures last, as OpenAI's examples have it."""
    pictures = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    return {"role": "user", "content": [{"type": "text", "text": text}, *pictures]}


# A server in a process of its own


@dataclass
class ServerProcess:
    """A running ``laco-engine serve``."""

    process: subprocess.Popen
    log: Path
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def metric(self, name: str) -> float:
        """A sample's value on ``/metrics``, 0 where it is not there yet."""
        text = urllib.request.urlopen(f"{self.url}/metrics", timeout=30).read().decode()
        lines = [line for line in text.splitlines() if line.startswith(f"{name} ")]
        return float(lines[0].rsplit(" ", 1)[1]) if lines else 0.0

    def rss(self) -> int:
        """Resident memory in bytes."""
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")

    def post(self, body: bytes, headers: dict | None = None, path: str = "/v1/chat/completions"):
        """``(status, headers, document)`` of a request whose body is sent as it is."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            headers = {"content-type": "application/json", **(headers or {})}
            connection.request("POST", path, body, headers, encode_chunked="transfer-encoding" in headers)
            response = connection.getresponse()
            return response.status, dict(response.headers), json.loads(response.read())
        finally:
            connection.close()

    def open_stream(self, messages: list, **fields) -> socket.socket:
        """A connection on which a streamed request was sent and nothing is read yet."""
        body = json.dumps({"messages": messages, "stream": True, **fields}).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.sendall(head.encode() + body)
        return connection

    def stop(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(60)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def start_server(bundle: Path, log: Path, *arguments: str) -> ServerProcess:
    """Start ``laco-engine serve`` and wait until it is ready."""
    port = free_port()
    command = [sys.executable, "-m", "laco_engines.cli", "serve", str(bundle), "--port", str(port), "--threads", "1"]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    environment.pop("LACO_API_KEY", None)
    with log.open("w") as output:
        process = subprocess.Popen([*command, *arguments], stderr=output, env=environment)
    server, end = ServerProcess(process, log, port), time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        try:
            if urllib.request.urlopen(f"{server.url}/health/ready", timeout=10).status == 200:
                return server
        except OSError:
            time.sleep(0.1)
    process.kill()
    raise AssertionError(f"the server did not start:\n{log.read_text()}")


@pytest.fixture(scope="session")
def trained_bundle(tmp_path_factory) -> Path:
    """An FP32 bundle of the tiny checkpoint that was trained."""
    from laco_export.exporter.options import ExportOptions
    from laco_export.exporter.pipeline import export_bundle

    output = tmp_path_factory.mktemp("serving") / "laco-tiny"
    return export_bundle(
        ExportOptions(ASSETS / "tiny-checkpoint", precision="fp32", output=output, compile=False)
    ).output


@pytest.fixture(scope="session")
def server(trained_bundle, tmp_path_factory):
    """``laco-engine serve`` of the trained bundle; its limits are low where a test wants to reach them."""
    started = start_server(trained_bundle, tmp_path_factory.mktemp("server") / "log", "--max-body", "4")
    yield started
    if started.process.poll() is None:
        started.stop()


@dataclass(frozen=True)
class Question:
    text: str
    truth: str
    url: str
    path: Path


@pytest.fixture(scope="session")
def questions() -> list[Question]:
    """Held-out questions with one picture each, of every kind."""
    held_out = []
    for entry in json.loads((HELD_OUT / "heldout.json").read_text())[::11]:
        asked, answered = entry["conversations"]
        path = HELD_OUT / entry["image"]
        text = asked["value"].replace("<image>\n", "")
        held_out.append(Question(text, answered["value"], data_url(path.read_bytes()), path))
    return held_out


# The application in this process, driven without a socket


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


@pytest.fixture
def gated(answerer):
    """The tiny bundle's answerer, which begins an answer, and goes on after each token, when it is let."""
    from laco_engines.answering import Answerer

    class Gated(Answerer):
        def __init__(self):
            self.bundle, self.prompter = answerer.bundle, answerer.prompter
            self.vision, self.decoder = answerer.vision, answerer.decoder
            self.gate = threading.Event()
            self.begun = threading.Semaphore(0)
            self.asked = []

        def generate(self, prompt, options=None, *, on_text=None, cancelled=None, **fields):
            self.asked.append(prompt)
            self.begun.release()
            while not self.gate.wait(0.005):
                if cancelled():
                    break
            return answerer.generate(prompt, options, on_text=on_text, cancelled=cancelled)

    return Gated()


@pytest.fixture
def running(gated, bundle):
    """``running(check, **settings)``: run ``check(client, service)`` on an application in front of ``gated``."""
    from laco_engines.serving.app import make_app
    from laco_engines.serving.service import Service
    from laco_engines.serving.settings import ServeSettings

    def run(check, load=lambda: gated, **settings):
        async def main():
            service = Service(bundle, gated.prompter, ServeSettings(**settings), load=load, model="tiny")
            app = make_app(service)
            service.start()
            try:
                while service.status == "loading":
                    await asyncio.sleep(0.001)
                return await asyncio.wait_for(check(Client(app), service), 60)
            finally:
                gated.gate.set()
                service.cancel_all()
                service.stop(30)

        return asyncio.run(main())

    return run
