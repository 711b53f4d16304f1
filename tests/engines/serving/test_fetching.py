import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from laco_engines.serving import fetching
from laco_engines.serving.errors import ApiError
from laco_engines.serving.fetching import fetch_picture, is_public


class Handler(BaseHTTPRequestHandler):
    """What a web server, or an attacker's, answers."""

    seen: list = []

    def do_GET(self):
        Handler.seen.append((self.path, self.headers["Host"]))
        if self.path == "/picture":
            self.reply(200, b"P" * 1000)
        elif self.path == "/missing":
            self.reply(404, b"no")
        elif self.path == "/loop":
            self.reply(302, b"", location="/loop")
        elif self.path == "/moved":
            self.reply(301, b"", location="/picture")
        elif self.path == "/inside":
            self.reply(302, b"", location="http://internal.example/secret")
        elif self.path == "/file":
            self.reply(302, b"", location="file:///etc/passwd")
        elif self.path == "/endless":
            self.send_response(200)
            self.end_headers()
            while self.wfile.write(b"x" * 65536):
                pass
        elif self.path == "/slow":
            self.send_response(200)
            self.end_headers()
            for _ in range(100):
                self.wfile.write(b"x")
                self.wfile.flush()
                time.sleep(0.05)

    def reply(self, status, body, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments):
        pass

    def handle(self):
        try:
            super().handle()
        except OSError:  # the client has hung up, as it should
            pass


@pytest.fixture(scope="module")
def port():
    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield web.server_address[1]
    web.shutdown()
    web.server_close()


@pytest.fixture
def fetch(port, monkeypatch):
    """Fetch a path of the local server as if it were public; ``internal.example`` stays private."""
    monkeypatch.setattr(fetching, "is_public", lambda address: address == "127.0.0.1")
    addresses = {"public.example": ["127.0.0.1"], "internal.example": ["10.0.0.1"]}
    Handler.seen.clear()

    def run(path, max_bytes=10_000, timeout_s=10.0):
        return fetch_picture(
            f"http://public.example:{port}{path}",
            max_bytes=max_bytes,
            param="messages[0].content",
            timeout_s=timeout_s,
            resolve=lambda host, _: addresses[host],
        )

    return run


@contextmanager
def refused(words: str):
    with pytest.raises(ApiError) as caught:
        yield
    assert caught.value.status == 400
    assert words in caught.value.message


def test_a_picture_is_fetched_from_the_address_that_was_checked(fetch, port):
    assert fetch("/picture") == b"P" * 1000
    assert Handler.seen == [("/picture", f"public.example:{port}")]


def test_a_redirect_is_followed(fetch):
    assert fetch("/moved") == b"P" * 1000


def test_a_redirect_into_the_private_network_is_not(fetch):
    with refused("internal.example is not on a public address"):
        fetch("/inside")


def test_a_redirect_to_another_scheme_is_not(fetch):
    with refused("only http and https"):
        fetch("/file")


@pytest.mark.parametrize(
    ("path", "words"), [("/missing", "status 404"), ("/loop", "redirects"), ("/endless", "larger than 10,000 bytes")]
)
def test_what_brings_no_picture_is_refused(fetch, path, words):
    with refused(words):
        fetch(path)


def test_a_server_that_sends_a_byte_at_a_time_is_cut_off(fetch):
    start = time.monotonic()
    with refused("could not be fetched"):
        fetch("/slow", timeout_s=0.3)
    assert time.monotonic() - start < 3


def test_the_name_is_looked_up_once(port, monkeypatch):
    """DNS rebinding: the second answer would be a private address."""
    answers = iter([["127.0.0.1"], ["10.0.0.1"]])
    monkeypatch.setattr(fetching, "is_public", lambda address: address == "127.0.0.1")
    url = f"http://rebound.example:{port}/picture"
    picture = fetch_picture(url, max_bytes=10_000, param="p", resolve=lambda host, port: next(answers))
    assert picture == b"P" * 1000
    assert next(answers) == ["10.0.0.1"]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/x",
        "http://[::1]/x",
        "http://0.0.0.0/x",
        "http://169.254.169.254/latest/meta-data",
        "http://2130706433/x",
        "http://[::ffff:127.0.0.1]/x",
        "http://localhost/x",
    ],
)
def test_private_addresses_are_refused_however_they_are_written(url):
    with refused("is not on a public address"):
        fetch_picture(url, max_bytes=10, param="p")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("file:///etc/passwd", "only http and https"),
        ("gopher://example.org/", "only http and https"),
        ("http:///x", "only http and https"),
        ("http://user:secret@example.org/x", "a name or a password"),
        ("http://example.org:99999/x", "cannot be read"),
        ("http://exa mple.org/x\r\nX: y", ""),
        ("http://[::1/x", "cannot be read"),
    ],
)
def test_other_urls_are_refused(url, words):
    with refused(words):
        fetch_picture(url, max_bytes=10, param="p", resolve=lambda host, port: [])


def test_one_private_address_among_public_ones_is_enough():
    with refused("is not on a public address"):
        fetch_picture("http://x.example/", max_bytes=10, param="p", resolve=lambda host, port: ["1.1.1.1", "10.0.0.1"])


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("1.1.1.1", True),
        ("2606:4700:4700::1111", True),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("169.254.1.1", False),
        ("224.0.0.1", False),
        ("255.255.255.255", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("::ffff:10.0.0.1", False),
        ("64:ff9b::a00:1", False),
        ("2002:a00:1::", False),
        ("::", False),
    ],
)
def test_which_addresses_are_public(address, public):
    assert is_public(address) is public
