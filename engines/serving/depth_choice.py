"""Which depth of a bundle answers a request, and the names by which clients ask for one.

A client names a depth in the model's id (``mine@1/4``, which every client can send) or in the request's field
``depth``. Where it names none, the server's own answers.
"""

from __future__ import annotations

from laco_export.bundle import Bundle
from laco_export.errors import DepthError

from .chat_request import ChatRequest
from .errors import ApiError, no_such_model, request_error

_JOINT = "@"


class DepthChoice:
    """The depths of a served bundle.

    Args:
        model: the id by which clients name the bundle.
        default: the depth of requests that name none; None takes the bundle's first.

    Attributes:
        models: the ids by which clients may ask, the first for the server's own choice.
    """

    def __init__(self, bundle: Bundle, model: str, default: str | None = None):
        self._bundle, self._model = bundle, model
        (self.default,) = bundle.at(default).depths
        self.several = len(bundle.depths) > 1
        named = [f"{model}{_JOINT}{depth}" for depth in bundle.depths] if self.several else []
        self.models = (model, *named)

    def named_by(self, chat: ChatRequest) -> str | None:
        """The depth that a request asks for, as the bundle names it; None where it leaves the choice to the server.

        Raises:
            ApiError: 404 of another model's id, 400 of a depth that the bundle does not carry, or of two.
        """
        by_model = None if chat.model is None else self.of_model(chat.model)
        if chat.depth is None:
            return by_model
        try:
            (by_field,) = self._bundle.at(chat.depth).depths
        except DepthError as error:
            raise request_error(error, param="depth", code="invalid_value") from None
        if by_model not in (None, by_field):
            message = f"the request names two depths: {by_model} in model and {by_field} in depth"
            raise ApiError(400, message, param="depth", code="invalid_value")
        return by_field

    def of_model(self, name: str) -> str | None:
        """The depth that a model's id names; None where it names none.

        Raises:
            ApiError: 404 of another model's id.
        """
        if name == self._model:
            return None
        model, joint, depth = name.rpartition(_JOINT)
        if not joint or model != self._model:
            raise no_such_model(name, self.models)
        try:
            return self._bundle.at(depth).depths[0]
        except DepthError:
            raise no_such_model(name, self.models) from None
