import asyncio

import pytest

from laco_engines.serving.access import Access
from laco_engines.serving.settings import ServeSettings

from .conftest import Client

KEY = "correct-horse-battery-staple"


async def through(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})


def status(path="/v1/models", settings=None, **headers) -> int:
    client = Client(Access(through, settings=settings or ServeSettings()))
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return asyncio.run(client.request("GET", path, headers)).status


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:9", "[::1]:8000", "[::1]", "LOCALHOST:8000"]
)
def test_this_machine_is_answered(host):
    assert status(host=host) == 200


@pytest.mark.parametrize(
    "host",
    ["", "evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.5:8000"],
)
def test_a_name_that_was_rebound_to_loopback_is_refused(host):
    assert status(host=host) == 403
    assert status(host=host, settings=ServeSettings(allowed_hosts=("evil.example", "10.0.0.5"))) == (
        200 if host.split(":")[0] in ("evil.example", "10.0.0.5") else 403
    )


@pytest.mark.parametrize(
    "origin", ["https://evil.example", "null", "http://localhost:3000", "http://127.0.0.1:8001", ""]
)
def test_a_page_from_elsewhere_is_refused(origin):
    assert status(origin=origin) == 403
    assert status("/", origin=origin) == 403


def test_another_loopback_address_is_answered_where_it_listens():
    assert status(host="127.1.2.3:8000", settings=ServeSettings(host="127.1.2.3")) == 200
    assert status(host="127.1.2.3:8000") == 403


def test_the_own_page_is_answered():
    assert status(origin="http://localhost:8000") == 200
    assert status(host="box.lan", origin="https://box.lan", settings=ServeSettings(allowed_hosts=("box.lan",))) == 200


def test_an_allowed_page_is_answered():
    settings = ServeSettings(allowed_origins=("https://app.example.org",))
    assert status(origin="https://app.example.org", settings=settings) == 200
    assert status(origin="https://app.example.org.evil.example", settings=settings) == 403


@pytest.mark.parametrize(
    ("authorization", "expected"),
    [
        (f"Bearer {KEY}", 200),
        (f"bearer {KEY}", 200),
        (None, 401),
        ("Bearer ", 401),
        (f"Bearer {KEY}x", 401),
        (f"Bearer {KEY[:-1]}", 401),
        (f"Basic {KEY}", 401),
        ("Bearer kéy", 401),
    ],
)
def test_the_key_decides(authorization, expected):
    settings = ServeSettings(host="0.0.0.0", api_key=KEY)
    headers = {} if authorization is None else {"authorization": authorization}
    assert status(settings=settings, host="box.lan:8000", **headers) == expected
    assert status("/metrics", settings=settings, **headers) == expected
    assert status("/health/ready", settings=settings, **headers) == 200
    assert status("/", settings=settings, **headers) == 200


def test_a_page_from_elsewhere_is_refused_even_with_the_key():
    settings = ServeSettings(host="0.0.0.0", api_key=KEY)
    assert status(settings=settings, origin="https://evil.example", authorization=f"Bearer {KEY}") == 403
