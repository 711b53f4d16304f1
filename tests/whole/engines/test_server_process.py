"""The server as a process: broken clients, its memory, its signals."""

import json
import signal
import socket
import threading
import time

import pytest

from ...engines.serving.messages import user
from .conftest import start_server

MIB = 1 << 20


def wait_for(holds, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


def read_all(connection: socket.socket) -> bytes:
    data = b""
    while chunk := connection.recv(65536):
        data += chunk
    return data


@pytest.mark.parametrize("body", [b"", b"{", b"\x00\xff", b"[]", b'{"messages": 3}'])
def test_broken_json_is_told_so(server, body):
    status, _, document = server.post(body)
    assert status == 400
    assert document["error"]["message"]


def test_100_megabytes_are_refused_and_not_held(server):
    server.post(b"{}")
    before = server.rss()
    chunk = b"x" * MIB

    def chunks():
        for _ in range(100):
            yield chunk

    stated = server.post(chunks(), {"content-length": str(100 * MIB)})
    assert (stated[0], stated[2]["error"]["code"]) == (413, "body_too_large")
    unstated = server.post(chunks(), {"transfer-encoding": "chunked"})
    assert (unstated[0], unstated[2]["error"]["code"]) == (413, "body_too_large")
    assert server.rss() - before < 20 * MIB


def test_a_client_that_leaves_mid_stream_ends_the_generation(server, questions):
    def cancelled() -> float:
        return server.metric('laco_answers_total{finish="cancelled"}')

    before = cancelled()
    # The end token stands in the prompt, so this penalty keeps the answer from ending.
    connection = server.open_stream([user(questions[0].text, questions[0].url)], max_tokens=400, repetition_penalty=10)
    data = b""
    while data.count(b"data: ") < 3:
        data += connection.recv(4096)
    connection.close()
    wait_for(lambda: cancelled() == before + 1)
    assert server.metric("laco_requests_held") == 0


def test_another_page_cannot_use_it(server):
    body = json.dumps({"messages": [user("Hi?")]}).encode()
    assert server.post(body, {"origin": "https://evil.example"})[0] == 403
    assert server.post(body, {"host": "evil.example"})[0] == 403
    assert server.post(body, {"origin": server.url})[0] == 200


def test_sigterm_drains(trained_bundle, questions, tmp_path):
    server = start_server(trained_bundle, tmp_path / "log", "--queue", "20", "--text-runtime", "lean")
    statuses = []

    def ask(question) -> None:
        messages = [user(question.text, question.url)]
        statuses.append(server.post(json.dumps({"messages": messages}).encode())[0])

    threads = [threading.Thread(target=ask, args=(question,)) for question in questions[:16]]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(statuses) >= 1)
    held = server.metric("laco_requests_held")
    code = server.stop(signal.SIGTERM)
    for thread in threads:
        thread.join()
    assert code == 0
    assert held > 0, "there was nothing to drain"
    assert set(statuses) <= {200}
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", server.port), timeout=5).close()
    assert "Traceback" not in server.log.read_text()
