"""The queue, the limits and the end of requests, on the application in this process with a gate before the worker."""

import asyncio
import dataclasses
import json
import re

import pytest

from laco_engines.serving import body as body_module
from laco_engines.serving import chat_response
from laco_engines.serving.fetching import fetch_picture

from .messages import data_url, png, user


async def until(holds) -> None:
    while not holds():
        await asyncio.sleep(0.002)


def test_answers_come_one_after_another_in_their_order(running, gated):
    async def check(client, service):
        asked = [asyncio.ensure_future(client.ask([user(f"{number}?")])) for number in range(3)]
        await until(lambda: service.worker.waiting == 2)
        assert len(gated.asked) == 1
        gated.gate.set()
        replies = await asyncio.gather(*asked)
        assert [reply.status for reply in replies] == [200] * 3
        assert service.held == 0

    running(check)
    texts = [gated.prompter.decode(prompt.input_ids) for prompt in gated.asked]
    assert [text for text in texts for number in "012" if f"{number}?" in text] == sorted(texts)


def test_a_full_queue_says_so_before_it_reads_the_body(running, gated):
    async def check(client, service):
        held = [asyncio.ensure_future(client.ask()) for _ in range(3)]
        await until(lambda: service.held == 3)
        reply = await client.ask()
        assert (reply.status, reply.error["code"]) == (429, "queue_full")
        assert int(reply.headers["retry-after"]) >= 1
        assert reply.taken == 0
        gated.gate.set()
        assert [reply.status for reply in await asyncio.gather(*held)] == [200] * 3
        assert (await client.ask()).status == 200

    running(check, queue=2)


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_ends_its_answer(running, gated, stream):
    async def check(client, service):
        leave = asyncio.Event()
        asked = asyncio.ensure_future(client.ask(leave=leave, stream=stream))
        await until(lambda: service.worker.current is not None)
        leave.set()
        await asked
        await until(lambda: service.worker.current is None)  # though the gate is shut
        assert service.held == 0

    running(check)


def test_a_client_that_leaves_the_queue_is_not_answered(running, gated):
    async def check(client, service):
        first = asyncio.ensure_future(client.ask())
        await until(lambda: service.worker.current is not None)
        leave = asyncio.Event()
        second = asyncio.ensure_future(client.ask(leave=leave))
        await until(lambda: service.worker.waiting == 1)
        leave.set()
        await second
        assert (service.held, service.worker.waiting) == (1, 0)
        gated.gate.set()
        assert (await first).status == 200

    running(check)
    assert len(gated.asked) == 1


@pytest.mark.parametrize("stream", [False, True])
def test_a_request_has_its_time_in_the_queue_and_at_the_worker(running, gated, stream):
    async def check(client, service):
        replies = await asyncio.gather(client.ask(stream=stream), client.ask(stream=stream))
        assert sorted((reply.status, reply.error["code"]) for reply in replies) == [(503, "timeout"), (504, "timeout")]
        (ran,) = [reply for reply in replies if reply.status == 504]
        assert ran.headers["x-should-retry"] == "false"

    running(check, timeout_s=1.0)
    assert len(gated.asked) == 1


def test_a_client_that_does_not_read_gives_its_place_back(running, gated, monkeypatch):
    monkeypatch.setattr(chat_response, "SLOW_READER_S", 0.1)
    gated.gate.set()

    async def check(client, service):
        reply = await client.ask(stream=True, reads=asyncio.Event())
        assert (reply.status, reply.body) == (200, b"")
        assert service.held == 0

    running(check, timeout_s=1.0)


def test_an_error_after_the_stream_began_is_an_event(running, gated, answerer, monkeypatch):
    def generate(prompt, options=None, *, on_text=None, cancelled=None):
        on_text("half of")
        raise RuntimeError("out of memory")

    monkeypatch.setattr(gated, "generate", generate)

    async def check(client, service):
        reply = await client.ask(stream=True)
        events = [line for line in reply.body.decode().split("\n\n") if line]
        assert reply.status == 200
        assert "half of" in events[1]
        assert json.loads(events[-1].removeprefix("data: "))["error"]["code"] == "answering_failed"
        # The failure is this request's alone.
        monkeypatch.setattr(gated, "generate", answerer.generate)
        assert (await client.ask()).status == 200

    running(check)


@pytest.mark.parametrize("stream", [False, True])
def test_bytes_that_never_became_a_character_are_not_lost(running, gated, answerer, monkeypatch, stream):
    def generate(prompt, options=None, *, on_text=None, cancelled=None):
        answer = answerer.generate(prompt, options)
        on_text(answer.text[:1])
        return dataclasses.replace(answer, text=answer.text[:1] + "\ufffd")

    monkeypatch.setattr(gated, "generate", generate)

    async def check(client, service):
        reply = await client.ask(stream=stream)
        assert "\ufffd" in reply.body.decode()

    running(check)


def test_counting_that_fails_loses_no_answer_and_the_worker_goes_on(running, gated, monkeypatch, capsys):
    async def check(client, service):
        counted = []

        def broken(answer, queue_seconds):
            counted.append(answer)
            raise ValueError("a label that the registry does not take")

        monkeypatch.setattr(service.metrics, "answer", broken)
        gated.gate.set()
        for number in range(2):
            reply = await client.ask(max_tokens=3)
            assert reply.status == 200
            assert reply.json["usage"]["completion_tokens"] > 0
            assert len(counted) == number + 1  # before the answer was sent
        assert service.status == "ready"

    running(check)
    assert capsys.readouterr().err.count("ValueError: a label that the registry does not take") == 2


def test_an_answer_that_fails_is_a_500_and_the_worker_goes_on(running, gated, answerer, monkeypatch, capsys):
    monkeypatch.setattr(gated, "generate", lambda *a, **k: 1 / 0)

    async def check(client, service):
        reply = await client.ask()
        assert (reply.status, reply.error["code"]) == (500, "answering_failed")
        assert "ZeroDivision" not in reply.error["message"]
        monkeypatch.setattr(gated, "generate", answerer.generate)
        assert (await client.ask()).status == 200

    running(check)
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_inf_and_nan_are_a_500_that_names_the_part_and_the_worker_goes_on(
    running, gated, answerer, make_picture, monkeypatch, capsys
):
    encode = answerer.encoder.vision.encode
    gated.gate.set()

    async def check(client, service):
        with monkeypatch.context() as patch:
            patch.setattr(answerer.encoder.vision, "encode", lambda pixels: encode(pixels) * float("nan"))
            reply = await client.ask([user("What is this?", data_url(png(make_picture(24))))])
        assert (reply.status, reply.error["code"]) == (500, "not_finite")
        assert "the vision tower gives inf or NaN (1 of 1 pictures" in reply.error["message"]
        assert (await client.ask(max_tokens=2)).status == 200
        assert service.status == "ready"

    running(check)
    assert "laco-engine diff BUNDLE" in capsys.readouterr().err


def test_shutting_down_answers_what_is_held_and_nothing_more(running, gated):
    async def check(client, service):
        held = [asyncio.ensure_future(client.ask()) for _ in range(2)]
        await until(lambda: service.held == 2)
        service.drain()
        refused = await client.ask()
        assert (refused.status, refused.error["code"]) == (503, "shutting_down")
        assert (await client.request("GET", "/health/ready")).status == 503
        assert (await client.request("GET", "/health/live")).status == 200
        gated.gate.set()
        assert [reply.status for reply in await asyncio.gather(*held)] == [200, 200]

    running(check)


def test_the_end_of_the_drain_ends_what_is_left(running, gated):
    async def check(client, service):
        held = [asyncio.ensure_future(client.ask()) for _ in range(2)]
        await until(lambda: service.held == 2)
        service.cancel_all()
        replies = await asyncio.gather(*held)
        assert {(reply.status, reply.error["code"]) for reply in replies} == {(503, "shutting_down")}

    running(check)


def test_until_the_models_are_loaded_requests_are_sent_away(gated, bundle):
    import threading

    from laco_engines.serving.app import make_app
    from laco_engines.serving.service import Service
    from laco_engines.serving.settings import ServeSettings

    from .conftest import Client

    async def check():
        loaded = threading.Event()
        service = Service(bundle, gated.prompter, ServeSettings(), load=lambda: loaded.wait(30) and gated, model="tiny")
        client = Client(make_app(service))
        service.start()
        reply = await client.ask()
        assert (reply.status, reply.error["code"]) == (503, "not_ready")
        ready = await client.request("GET", "/health/ready")
        assert (ready.status, ready.json) == (503, {"status": "loading", "bundle": "unchanged"})
        loaded.set()
        await until(lambda: service.status == "ready")
        gated.gate.set()
        assert (await client.ask()).status == 200
        service.stop(30)

    asyncio.run(check())


def test_a_body_that_grows_past_the_limit_is_not_read_to_its_end(running):
    async def check(client, service):
        chunks = [b"x" * 1000] * 100
        reply = await client.request("POST", "/v1/chat/completions", {"content-type": "application/json"}, chunks)
        assert (reply.status, reply.error["code"]) == (413, "body_too_large")
        assert reply.taken == 6
        headers = {"content-type": "application/json", "content-length": "100000"}
        reply = await client.request("POST", "/v1/chat/completions", headers, chunks)
        assert (reply.status, reply.taken) == (413, 0)

    running(check, max_body_bytes=5000)


def test_a_body_that_never_comes_gives_its_place_back(running, monkeypatch):
    monkeypatch.setattr(body_module, "BODY_S", 0.1)

    async def check(client, service):
        forever = lambda: asyncio.sleep(30, b"")
        headers = {"content-type": "application/json"}
        reply = await client.request("POST", "/v1/chat/completions", headers, [b"{", forever, b"}"])
        assert reply.status == 408
        assert service.held == 0

    running(check)


def test_another_content_type_is_refused(running):
    """A form of another page can send text/plain, but not JSON, without the browser's asking first."""

    async def check(client, service):
        reply = await client.ask(headers={"content-type": "text/plain"})
        assert (reply.status, "application/json" in reply.error["message"]) == (415, True)

    running(check)


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/cat.png", "https://example.org/cat.png", "HTTP://example.org/"])
def test_no_client_makes_the_server_open_a_url(running, monkeypatch, url):
    monkeypatch.setattr("laco_engines.serving.service.fetch_picture", None)

    async def check(client, service):
        reply = await client.ask([user("What is this?", url)])
        assert (reply.status, reply.error["code"]) == (400, "invalid_image_url")
        assert "data:" in reply.error["message"]

    running(check)


def test_with_leave_it_fetches_public_urls_only(running, gated, monkeypatch, picture_file):
    fetched = []

    def fetch(url, **further):
        fetched.append(url)
        if "example.org" in url:
            return picture_file.read_bytes()
        return fetch_picture(url, **further)

    monkeypatch.setattr("laco_engines.serving.service.fetch_picture", fetch)
    gated.gate.set()

    async def check(client, service):
        assert (await client.ask([user("What is this?", "https://example.org/cat.png")])).status == 200
        reply = await client.ask([user("What is this?", "http://127.0.0.1:1/cat.png")])
        assert (reply.status, "public address" in reply.error["message"]) == (400, True)

    running(check, allow_fetch=True)
    assert fetched == ["https://example.org/cat.png", "http://127.0.0.1:1/cat.png"]


def test_unknown_paths_and_methods_are_errors_in_openai_s_form(running):
    async def check(client, service):
        assert (await client.request("GET", "/v1/nothing")).error["type"] == "not_found_error"
        assert (await client.request("GET", "/v1/chat/completions")).status == 405
        assert (await client.request("GET", "/v1/models/other")).status == 404
        assert (await client.request("GET", "/docs")).status == 404
        assert (await client.ask(model="gpt-4o")).error["code"] == "model_not_found"

    running(check)


@pytest.mark.parametrize("path", ["/", "/?page=2", "/page.css", "/page.js"])
def test_the_page_needs_nothing_from_elsewhere(running, path):
    async def check(client, service):
        reply = await client.request("GET", path)
        text = reply.body.decode().replace("http://www.w3.org/2000/svg", "")
        assert reply.status == 200
        assert not re.search(r"(https?:)?//[a-z]", text), "an address"
        assert "default-src 'none'" in reply.headers["content-security-policy"]
        assert reply.headers["x-content-type-options"] == "nosniff"

    running(check)


def test_the_schema_names_the_requests_fields(running):
    async def check(client, service):
        schema = (await client.request("GET", "/openapi.json")).json
        body = schema["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]["application/json"]["schema"]
        assert {"messages", "temperature", "stream"} <= set(body["properties"])

    running(check)


def test_an_allowed_page_may_ask_first(running):
    async def check(client, service):
        asked = {
            "origin": "https://app.example.org",
            "access-control-request-method": "POST",
            "access-control-request-headers": "authorization,content-type",
        }
        reply = await client.request("OPTIONS", "/v1/chat/completions", asked)
        assert (reply.status, reply.headers["access-control-allow-origin"]) == (200, "https://app.example.org")
        reply = await client.request("OPTIONS", "/v1/chat/completions", {**asked, "origin": "https://evil.example"})
        assert "access-control-allow-origin" not in reply.headers

    running(check, allowed_origins=("https://app.example.org",))


def test_a_dead_worker_is_not_live(running, gated):
    def fail():
        raise MemoryError

    async def check(client, service):
        await until(lambda: not service.worker.alive)
        assert (await client.request("GET", "/health/live")).status == 503
        assert (await client.ask()).status == 503

    running(check, load=fail)


def test_metrics_count_requests_and_tokens(running, gated):
    gated.gate.set()

    async def check(client, service):
        await client.ask(max_tokens=3)
        await client.request("BREW", "/pot")
        text = (await client.request("GET", "/metrics")).body.decode()
        assert 'laco_http_requests_total{method="POST",path="/v1/chat/completions",status="200"} 1.0' in text
        assert 'laco_http_requests_total{method="other",path="other",status="404"} 1.0' in text
        assert "laco_first_token_seconds_count 1.0" in text
        assert "laco_requests_held 0.0" in text

    running(check)


def test_a_bundle_that_was_replaced_is_told_once_and_goes_on_answering(bundle, gated, tmp_path, capsys):
    import shutil

    from laco_engines.serving.app import make_app
    from laco_engines.serving.service import Service
    from laco_engines.serving.settings import ServeSettings
    from laco_export.bundle import open_bundle

    from .conftest import Client

    async def check():
        opened = open_bundle(shutil.copytree(bundle.path, tmp_path / "bundle"))
        service = Service(opened, gated.prompter, ServeSettings(), load=lambda: gated, model="tiny")
        client = Client(make_app(service))
        service.start()
        gated.gate.set()
        await until(lambda: service.status == "ready")
        fingerprint = (await client.ask()).json["system_fingerprint"]
        assert (await client.request("GET", "/health")).json == {"status": "ready", "bundle": "unchanged"}
        assert "was replaced" not in capsys.readouterr().err
        shutil.rmtree(opened.path)
        for _ in range(2):
            health = await client.request("GET", "/health/ready")
            assert (health.status, health.json) == (200, {"status": "ready", "bundle": "replaced"})
            answer = await client.ask()
            assert (answer.status, answer.json["system_fingerprint"]) == (200, fingerprint)
        said = " ".join(capsys.readouterr().err.split())
        assert said.count("was replaced or removed: answers go on") == 1
        service.stop(30)

    asyncio.run(check())


@pytest.mark.parametrize("mode", ["exact", "close"])
def test_prompt_lookup_is_the_servers_for_all_answers(running, lean_answerer, mode):
    asked = {"messages": [user("abc abc abc abc abc")], "max_tokens": 12}

    async def check(client, service):
        return [(await client.ask(**asked, temperature=temperature)).json for temperature in (0, 1)]

    greedy, sampled = running(check, load=lambda: lean_answerer, prompt_lookup=mode)
    assert greedy["timings"]["decode_tokens_per_pass"] >= 1
    assert ("decode_tokens_per_pass" in sampled["timings"]) == (mode == "close")
    name = lean_answerer.text.name.replace(" ", "_")
    assert greedy["system_fingerprint"].endswith(name) == (mode == "exact")  # else with the costs that decide
