"""What a client is told where it is not answered: OpenAI's error objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from laco_export.errors import LacoError

STATUS_TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
"""OpenAI's ``type`` by status; other 4xx are ``invalid_request_error``, 5xx ``server_error``."""

CLIENT_CLOSED = 499
"""nginx's status for a client that went away; it is logged and counted, and nobody is there to read it."""


class ApiError(Exception):
    """A request that gets an error instead of an answer.

    Args:
        status: HTTP's.
        message: for the person who wrote the client: what was wrong, and what is allowed.
        param: the field of the request, such as ``messages[0].content[1]``.
        code: OpenAI's or our short name of the kind of error.
        headers: further ones of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        self.status, self.message, self.param, self.code = status, message, param, code
        self.headers = dict(headers or {})
        super().__init__(message)

    def body(self) -> dict:
        """The JSON document: ``{"error": {"message", "type", "param", "code"}}``."""
        kind = STATUS_TYPES.get(self.status, "server_error" if self.status >= 500 else "invalid_request_error")
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


def request_error(error: LacoError, *, param: str | None = None, code: str | None = None) -> ApiError:
    """A 400 of a LacoError; its ``todo`` is for the command line and left out."""
    about = [f"{label}: {value}" for label, value in (("given", error.given), ("allowed", error.allowed)) if value]
    message = error.failed + (f" ({'; '.join(about)})" if about else "")
    return ApiError(400, message, param=param, code=code)


def no_such_model(name: str, served: Sequence[str]) -> ApiError:
    """404: the request names another model than those that are served."""
    message = f"there is no model {name[:100]!r} here (allowed: {', '.join(served)})"
    return ApiError(404, message, param="model", code="model_not_found")


def client_gone() -> ApiError:
    """499: nobody waits for the answer any more."""
    return ApiError(CLIENT_CLOSED, "the client closed the connection", code="client_closed_request")


def shutting_down() -> ApiError:
    """503: the server takes no more requests."""
    return ApiError(503, "the server is shutting down", code="shutting_down", headers={"retry-after": "5"})
