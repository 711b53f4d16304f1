"""1,000 requests from 16 clients, 5 % of them broken, against ``laco-engine serve`` of the trained tiny checkpoint.

    python benchmarks/serve_load.py [--requests 1000] [--clients 16] [--bundle DIR] [--results FILE]

Three servers, one after another, each a process of its own:

- load: good requests (half of them streams, by the official openai client, held-out questions with their pictures)
  among bad JSON, broken pictures, 100 MB bodies (their length stated, or not) and clients that leave mid-stream. Each
  good answer must be the one that the bundle gives alone, each bad request a 4xx with a message, each answer that was
  left must end, and the memory must not grow.
- busy: the same clients and a queue of four: those it has no place for get 429, wait as told, and are answered.
- drain: SIGTERM while all clients wait for long answers: all of them are answered, and the exit code is 0.

Exits with 1 where one of these does not hold. A tiny model answers in milliseconds, so the figures are the server's.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import http.client
import json
import os
import platform
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
ASSETS = ROOT / "tests" / "assets"
RESULTS = Path(__file__).resolve().parent / "results" / "serve_load.json"
MODEL, MIB = "laco-tiny", 1 << 20
BROKEN_SHARE = 0.05
BROKEN = ("bad_json", "broken_picture", "100_mb_stated", "100_mb_unstated", "leaves")
LONG = {"max_tokens": 300, "extra_body": {"repetition_penalty": 10.0}}
"""The end token stands in every prompt, so that this penalty keeps an answer going: for 100 to 220 tokens."""
GROWTH_LIMIT = 0.05
"""Of the memory after the first tenth of the requests, when the caches are full: what it may have grown by the end."""


class Server:
    """A ``laco-engine serve`` process."""

    def __init__(self, bundle: Path, *arguments: str):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115  lives as long as the server
        command = [sys.executable, "-m", "laco_engines.cli", "serve", bundle, "--name", MODEL, "--port", self.port]
        self.process = subprocess.Popen([str(part) for part in (*command, *arguments)], stderr=self.log)
        end = time.monotonic() + 120
        while not self.ready():
            if time.monotonic() > end or self.process.poll() is not None:
                sys.exit("the server did not start")
            time.sleep(0.1)

    def ready(self) -> bool:
        try:
            return urllib.request.urlopen(f"{self.url}/health/ready", timeout=10).status == 200
        except OSError:
            return False

    def metric(self, name: str) -> float:
        text = urllib.request.urlopen(f"{self.url}/metrics", timeout=60).read().decode()
        return next((float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"{name} ")), 0.0)

    def memory(self) -> dict:
        """Resident memory now and at its highest, in MiB; open files and threads."""
        folder = Path(f"/proc/{self.process.pid}")
        status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line)
        return {
            "rss_mib": round(int(status["VmRSS"].split()[0]) / 1024, 1),
            "peak_rss_mib": round(int(status["VmHWM"].split()[0]) / 1024, 1),
            "files": len(os.listdir(folder / "fd")),
            "threads": int(status["Threads"]),
        }

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(120)

    def failures(self) -> list[str]:
        """Lines of its log that tell of a crash."""
        self.log.seek(0)
        return [line.strip() for line in self.log if "Traceback" in line or "Error" in line]


def questions(bundle: Path) -> list[dict]:
    """The held-out questions as requests, each with the answer that the bundle gives alone."""
    from laco_engines.answering import Answerer
    from laco_export.bundle import open_bundle

    answerer, asked = Answerer(open_bundle(bundle)), []
    for entry in json.loads((ASSETS / "tiny-heldout" / "heldout.json").read_text()):
        path = ASSETS / "tiny-heldout" / entry["image"]
        text = entry["conversations"][0]["value"].replace("<image>\n", "")
        url = f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}"
        content = [{"type": "text", "text": text}, {"type": "image_url", "image_url": {"url": url}}]
        asked.append({"messages": [{"role": "user", "content": content}], "answer": answerer.answer([path], text).text})
    return asked


def plan(requests: int) -> list[str]:
    """What each request is: ``whole`` and ``stream`` by turns, with the broken ones spread among them."""
    broken = [BROKEN[index % len(BROKEN)] for index in range(round(requests * BROKEN_SHARE))]
    good = [("whole", "stream")[index % 2] for index in range(requests - len(broken))]
    kinds = broken + good
    random.Random(0).shuffle(kinds)
    return kinds


async def ask(client, kind: str, question: dict) -> dict:
    """A good request: its outcome, and its times in milliseconds."""
    start, first, text = time.perf_counter(), None, ""
    reply = await client.chat.completions.create(model=MODEL, messages=question["messages"], stream=kind == "stream")
    if kind == "whole":
        text = reply.choices[0].message.content
    else:
        async for chunk in reply:
            if chunk.choices and chunk.choices[0].delta.content:
                first = first or time.perf_counter()
                text += chunk.choices[0].delta.content
    done = time.perf_counter()
    return {
        "kind": kind,
        "right": text == question["answer"],
        "ms": 1000 * (done - start),
        "first_ms": None if first is None else 1000 * (first - start),
    }


async def leave(client, question: dict) -> dict:
    """Read the first words of a long answer and close the connection."""
    stream = await client.chat.completions.create(model=MODEL, messages=question["messages"], stream=True, **LONG)
    words = 0
    async for chunk in stream:
        words += bool(chunk.choices and chunk.choices[0].delta.content)
        if words == 2:
            break
    await stream.close()
    return {"kind": "leaves", "right": words == 2}


def post(port: int, kind: str) -> dict:
    """A broken request, sent as any HTTP client would; right if it gets a 4xx with a message."""
    chunk = b"x" * MIB
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAA"}}
    content = [{"type": "text", "text": "What is this?"}, picture]
    broken_picture = json.dumps({"messages": [{"role": "user", "content": content}]}).encode()
    bodies = {
        "bad_json": (b'{"messages": [', {}),
        "broken_picture": (broken_picture, {}),
        "100_mb_stated": ((chunk for _ in range(100)), {"content-length": str(100 * MIB)}),
        "100_mb_unstated": ((chunk for _ in range(100)), {"transfer-encoding": "chunked"}),
    }
    body, headers = bodies[kind]
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    try:
        headers["content-type"] = "application/json"
        chunked = "transfer-encoding" in headers
        connection.request("POST", "/v1/chat/completions", body, headers, encode_chunked=chunked)
        response = connection.getresponse()
        message = json.loads(response.read())["error"]["message"]
    finally:
        connection.close()
    right = 400 <= response.status < 500 and bool(message)
    return {"kind": kind, "right": right, "status": response.status, "message": message}


async def run_clients(server: Server, kinds: list[str], asked: list[dict], clients: int, retries: int) -> dict:
    """Let the clients work through the requests; every outcome, and the memory as the requests pass."""
    import openai

    waiting, outcomes, memory = list(enumerate(kinds))[::-1], [], {0: server.memory()}
    step = max(1, len(kinds) // 20)

    async def client_loop() -> None:
        async with openai.AsyncOpenAI(
            base_url=f"{server.url}/v1", api_key="unused", max_retries=retries, timeout=120
        ) as client:
            while waiting:
                number, kind = waiting.pop()
                question = asked[number % len(asked)]
                try:
                    if kind in ("whole", "stream"):
                        outcome = await ask(client, kind, question)
                    elif kind == "leaves":
                        outcome = await leave(client, question)
                    else:
                        outcome = await asyncio.to_thread(post, server.port, kind)
                except (openai.APIError, OSError, ValueError) as error:
                    outcome = {"kind": kind, "right": False, "error": repr(error)[:300]}
                outcomes.append(outcome)
                if len(outcomes) % step == 0:
                    memory[len(outcomes)] = server.memory()

    start = time.perf_counter()
    await asyncio.gather(*(client_loop() for _ in range(clients)))
    return {"outcomes": outcomes, "memory": memory, "seconds": time.perf_counter() - start}


def load(bundle: Path, asked: list[dict], requests: int, clients: int) -> dict:
    server, kinds = Server(bundle), plan(requests)
    answered = asyncio.run(run_clients(server, kinds, asked, clients, retries=0))
    outcomes, left = answered["outcomes"], kinds.count("leaves")
    end = time.monotonic() + 30
    while server.metric("laco_requests_held") and time.monotonic() < end:
        time.sleep(0.05)
    ended = server.metric('laco_answers_total{finish="cancelled"}')
    held = server.metric("laco_requests_held")
    alive, code, failures = server.process.poll() is None, server.stop(), server.failures()
    memory = answered["memory"]
    tenth = memory[min(number for number in memory if number >= requests // 10)]["rss_mib"]
    growth = memory[max(memory)]["rss_mib"] - tenth
    good = [outcome for outcome in outcomes if outcome["kind"] in ("whole", "stream")]
    streams = [outcome["first_ms"] for outcome in good if outcome.get("first_ms") is not None]
    examples = {o["kind"]: {k: o[k] for k in ("status", "message")} for o in outcomes if "status" in o}
    checks = {
        "no crash": alive and code == 0 and not failures,
        "every good one answered as alone": all(outcome["right"] for outcome in good),
        "every bad one a 4xx with a message": all(o["right"] for o in outcomes if o["kind"] not in ("whole", "stream")),
        "every answer that was left ended": ended == left and held == 0,
        "memory flat": growth <= GROWTH_LIMIT * tenth,
    }
    return {
        "checks": checks,
        "requests": dict(Counter(kinds)),
        "wrong": [outcome for outcome in outcomes if not outcome["right"]][:10],
        "log": failures[:10],
        "clients": clients,
        "seconds": answered["seconds"],
        "requests_per_s": len(outcomes) / answered["seconds"],
        "good_ms": quantiles([outcome["ms"] for outcome in good if "ms" in outcome]),
        "first_words_ms": quantiles(streams),
        "answers_ended_early": ended,
        "examples": examples,
        "rss_growth_after_the_first_tenth_mib": round(growth, 1),
        "memory_by_requests": memory,
    }


def busy(bundle: Path, asked: list[dict], requests: int, clients: int) -> dict:
    server = Server(bundle, "--queue", "4")
    answered = asyncio.run(run_clients(server, ["whole"] * requests, asked, clients, retries=50))
    sent_away = server.metric('laco_http_requests_total{method="POST",path="/v1/chat/completions",status="429"}')
    code = server.stop()
    right = all(outcome["right"] for outcome in answered["outcomes"])
    return {
        "checks": {"sent away, then answered": right and sent_away > 0, "exit code 0": code == 0},
        "requests": requests,
        "queue": 4,
        "sent_away_429": sent_away,
        "wrong": [outcome for outcome in answered["outcomes"] if not outcome["right"]][:10],
    }


def drain(bundle: Path, asked: list[dict], clients: int) -> dict:
    import openai

    server = Server(bundle, "--drain", "60")

    async def ask_and_end() -> tuple[list, float, float]:
        async with openai.AsyncOpenAI(
            base_url=f"{server.url}/v1", api_key="unused", max_retries=0, timeout=120
        ) as client:
            create = client.chat.completions.create
            waiting = [
                asyncio.ensure_future(create(model=MODEL, messages=question["messages"], **LONG))
                for question in asked[:clients]
            ]
            while await asyncio.to_thread(server.metric, "laco_requests_held") < clients:
                await asyncio.sleep(0.01)
            held = await asyncio.to_thread(server.metric, "laco_requests_held")
            start = time.perf_counter()
            server.process.send_signal(signal.SIGTERM)
            replies = await asyncio.gather(*waiting, return_exceptions=True)
            return replies, held, start

    replies, held, start = asyncio.run(ask_and_end())
    code = server.process.wait(120)
    answers = [reply for reply in replies if not isinstance(reply, BaseException)]
    answered = sum(reply.choices[0].finish_reason in ("stop", "length") for reply in answers)
    return {
        "checks": {"SIGTERM drains": answered == clients and code == 0 and held == clients},
        "held_at_sigterm": held,
        "answered": answered,
        "tokens_of_the_answers": sorted(reply.usage.completion_tokens for reply in answers),
        "failed": [repr(reply)[:300] for reply in replies if isinstance(reply, Exception)],
        "exit_code": code,
        "seconds_from_sigterm_to_exit": time.perf_counter() - start,
    }


def quantiles(values: list[float]) -> dict:
    cuts = statistics.quantiles(values, n=100)
    return {"p50": round(cuts[49], 1), "p95": round(cuts[94], 1), "max": round(max(values), 1)}


def make_bundle(folder: Path) -> Path:
    from laco_export.exporter.options import ExportOptions
    from laco_export.exporter.pipeline import export_bundle

    options = ExportOptions(ASSETS / "tiny-checkpoint", precision="fp32", output=folder / "bundle", compile=False)
    return export_bundle(options).output


def machine() -> dict:
    from measured_on import measured_on

    libraries = ("fastapi", "uvicorn", "starlette", "pydantic", "openai", "onnxruntime", "torch", "transformers")
    facts = measured_on(*libraries)
    shared = f"{facts['device']}, which the clients share with the server"
    return {**facts, "device": shared, "python": platform.python_version()}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=1000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--bundle", type=Path, help="of tests/assets/tiny-checkpoint; default: made anew")
    parser.add_argument("--results", type=Path, default=RESULTS)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        bundle = arguments.bundle or make_bundle(Path(temporary))
        asked = questions(bundle)
        result = machine() | {
            "load": load(bundle, asked, arguments.requests, arguments.clients),
            "busy": busy(bundle, asked, max(1, arguments.requests // 5), arguments.clients),
            "drain": drain(bundle, asked, arguments.clients),
        }
    arguments.results.write_text(json.dumps(result, indent=1) + "\n")
    checks = {
        f"{step}: {name}": held for step in ("load", "busy", "drain") for name, held in result[step]["checks"].items()
    }
    for name, held in checks.items():
        print(f"{'yes' if held else 'NO '}  {name}")
    return 0 if all(checks.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
