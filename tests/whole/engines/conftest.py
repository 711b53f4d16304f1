"""A server in a process of its own, and the fixtures of laco_engines' parts."""

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import pytest

from ...engines.fixtures import (  # noqa: F401 - fixtures
    answerer,
    answering_model,
    bundle,
    bundle_folder,
    engine_cache,
    make_picture,
    picture_file,
    rewritten,
    rtx,
)
from ...engines.serving.messages import data_url

ASSETS = Path(__file__).resolve().parents[2] / "assets"
HELD_OUT = ASSETS / "tiny-heldout"


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


def start_server(folder: Path, log: Path, *arguments: str) -> ServerProcess:
    """Start ``laco-engine serve`` and wait until it is ready."""
    port = free_port()
    command = [sys.executable, "-m", "laco_engines.cli", "serve", str(folder), "--port", str(port), "--threads", "1"]
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
def server(trained_bundle, tmp_path_factory):
    """``laco-engine serve`` of the trained bundle; its limits are low where a test wants to reach them."""
    pytest.importorskip("fastapi", reason="needs the extra 'serve'")
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
