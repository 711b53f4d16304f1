"""The HTTP application: routes, middleware, and errors in OpenAI's form."""

from __future__ import annotations

import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from importlib import resources

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from starlette.exceptions import HTTPException
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from laco_export import __version__

from .access import Access
from .chat_request import ChatRequest
from .chat_response import error_response
from .errors import ApiError, no_such_model
from .service import Service

PAGE_HEADERS = {
    # Nothing from anywhere else, and no script or style but the page's own two files.
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "cache-control": "no-cache",
}


def make_app(service: Service) -> FastAPI:
    """The application of one service."""
    # No /docs: its scripts would come from a CDN. /openapi.json describes the API.
    app = FastAPI(title="LaCo Export", version=__version__, docs_url=None, redoc_url=None)
    _add_api(app, service)
    _add_page(app)
    app.add_exception_handler(ApiError, lambda request, error: error_response(error))
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _internal_error)
    app.add_middleware(Access, settings=service.settings)
    if service.settings.allowed_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=service.settings.allowed_origins,
            allow_methods=["GET", "POST"],
            allow_headers=["authorization", "content-type"],
        )
    app.add_middleware(RequestLog, service=service, paths={route.path for route in app.routes})
    return app


def _add_api(app: FastAPI, service: Service) -> None:
    schema = {"application/json": {"schema": ChatRequest.model_json_schema()}}
    body = {"requestBody": {"required": True, "content": schema}}

    @app.post("/v1/chat/completions", openapi_extra=body, response_model=None)
    async def chat_completions(request: Request) -> Response:
        """Answer the last message of a conversation about pictures."""
        return await service.chat_completions(request)

    created = int(time.time())
    about = {"object": "model", "created": created, "owned_by": "laco-export"}
    served = {name: {"id": name, **about} for name in service.depths.models}

    @app.get("/v1/models")
    async def models() -> dict:
        """The model that is served, and where it has several depths, each of them."""
        return {"object": "list", "data": list(served.values())}

    @app.get("/v1/models/{name:path}")
    async def model_by_name(name: str) -> dict:
        if name not in served:
            raise no_such_model(name, service.depths.models)
        return served[name]

    @app.get("/health/live")
    async def live() -> JSONResponse:
        """200 unless the worker has died or stalled: then restart the server."""
        alive = service.worker.alive
        return JSONResponse({"status": "live" if alive else "failed"}, 200 if alive else 503)

    @app.get("/health", include_in_schema=False)
    @app.get("/health/ready")
    async def ready() -> JSONResponse:
        """200 while requests are taken; ``bundle`` says whether the folder still holds what is served."""
        state = {"status": service.status, "bundle": "replaced" if service.bundle_is_replaced() else "unchanged"}
        return JSONResponse(state, 200 if service.status == "ready" else 503)

    @app.get("/metrics")
    async def metrics() -> Response:
        """Prometheus metrics."""
        document = service.metrics.read(held=service.held, ready=service.status == "ready")
        return Response(document, headers={"content-type": service.metrics.content_type})


def _add_page(app: FastAPI) -> None:
    folder = resources.files(__package__) / "page"
    for path, name, media in (
        ("/", "index.html", "text/html"),
        ("/page.css", "page.css", "text/css"),
        ("/page.js", "page.js", "text/javascript"),
    ):
        app.add_route(path, _constant(folder.joinpath(name).read_bytes(), media), include_in_schema=False)


def _constant(document: bytes, media: str) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        return Response(document, media_type=f"{media}; charset=utf-8", headers=PAGE_HEADERS)

    return endpoint


async def _http_error(request: Request, error: HTTPException) -> JSONResponse:
    reason = {404: f"there is no {request.url.path[:100]!r} here", 405: f"{request.method} is not allowed here"}
    message = reason.get(error.status_code, str(error.detail))
    return error_response(ApiError(error.status_code, message, headers=error.headers))


async def _internal_error(request: Request, error: Exception) -> JSONResponse:
    return error_response(ApiError(500, "internal error; the server's log says more", code="internal_error"))


class RequestLog:
    """Middleware that counts and logs each request when it is over: one line on stderr, without what was said.

    Not the logging module: while an answer is generated it is silenced for other libraries' sake.
    """

    def __init__(self, app: ASGIApp, *, service: Service, paths: set[str]):
        self.app, self._service, self._paths = app, service, paths

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.monotonic(), 500

        async def noting_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-content-type-options", b"nosniff")]
            await send(message)

        try:
            await self.app(scope, receive, noting_status)
        finally:
            seconds = time.monotonic() - start
            path = scope["path"] if scope["path"] in self._paths else "other"
            self._service.metrics.request(_method(scope), path, status, seconds)
            if path not in ("/health", "/health/live", "/health/ready", "/metrics"):  # polled every few seconds
                client = (scope.get("client") or ("-",))[0]
                line = f"{client} {_method(scope)} {path} {status} {1000 * seconds:.0f} ms"
                with suppress(OSError, ValueError):  # nobody reads stderr any more
                    print(time.strftime("%Y-%m-%d %H:%M:%S"), line, file=sys.stderr, flush=True)


def _method(scope: Scope) -> str:
    """A client may send any word, and each would be a time series of its own."""
    return scope["method"] if scope["method"] in ("GET", "HEAD", "POST", "OPTIONS", "PUT", "DELETE") else "other"
