"""Prometheus metrics of the server, on ``/metrics``."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from ..answering import Answer

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120)
"""From a tiny model's first token to the default time limit."""


class Metrics:
    """Counters of one server; safe for several threads."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self):
        self._registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        PlatformCollector(registry=registry)
        self._requests = Counter(
            "laco_http_requests", "HTTP requests by path and status", ["method", "path", "status"], registry=registry
        )
        self._seconds = Histogram(
            "laco_request_seconds",
            "From a chat request's headers to its last byte",
            buckets=_SECONDS,
            registry=registry,
        )
        self._queued = Histogram(
            "laco_queue_seconds",
            "From a request's headers to the worker's start on it",
            buckets=_SECONDS,
            registry=registry,
        )
        self._first_token = Histogram(
            "laco_first_token_seconds",
            "From the worker's start on a request to its first token",
            buckets=_SECONDS,
            registry=registry,
        )
        self._tokens = Counter(
            "laco_tokens", "Tokens: prompt, cached (of them), completion", ["kind"], registry=registry
        )
        self._answers = Counter("laco_answers", "Answers by how they ended", ["finish"], registry=registry)
        self._depths = Counter(
            "laco_depth_answers", "Answers by depth, of a bundle of several", ["depth"], registry=registry
        )
        self._places = Gauge("laco_requests_held", "Requests that are waiting or answered", registry=registry)
        self._ready = Gauge("laco_ready", "1 while the models are loaded and requests are taken", registry=registry)
        self._info = Gauge(
            "laco_model_info", "What is served, by what", ["model", "version", "runtime", "provider"], registry=registry
        )

    def request(self, method: str, path: str, status: int, seconds: float) -> None:
        self._requests.labels(method, path, str(status)).inc()
        if path == "/v1/chat/completions":
            self._seconds.observe(seconds)

    def answered_at(self, depth: str) -> None:
        self._depths.labels(depth).inc()

    def answer(self, answer: Answer, queue_seconds: float) -> None:
        self._queued.observe(queue_seconds)
        self._answers.labels(answer.finish).inc()
        counts = {
            "prompt": answer.prompt_tokens,
            "cached": answer.cached_tokens,
            "completion": len(answer.token_ids),
        }
        for kind, count in counts.items():
            self._tokens.labels(kind).inc(count)
        self._first_token.observe((answer.timings.encode_ms + answer.timings.prefill_ms) / 1000)

    def loaded(self, model: str, version: str, runtime: str, provider: str) -> None:
        self._info.labels(model, version, runtime, provider).set(1)

    def read(self, *, held: int, ready: bool) -> bytes:
        """The exposition, with the gauges as they are now."""
        self._places.set(held)
        self._ready.set(ready)
        return generate_latest(self._registry)
