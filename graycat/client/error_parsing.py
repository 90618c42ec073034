"""Which error of ``graycat.client.errors`` an answer describes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from graycat.client import connection_errors, errors, fleet_errors, image_errors, token_errors
from graycat.client.errors import ApiError, RequestError, ServerError, Unavailable


def _with_subclasses(cls: type[ApiError]) -> Iterator[type[ApiError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _with_subclasses(child)


#: The modules whose classes are among the subclasses below.
MODULES = (errors, connection_errors, fleet_errors, image_errors, token_errors)
#: The class of each type.
BY_TYPE = {cls.type: cls for cls in _with_subclasses(ApiError) if cls.type}


def parse_error(status: int, body: bytes, retry_after_s: float | None = None) -> ApiError:
    """Return the error that an answer with an error status describes. Any body is accepted."""
    try:
        fields = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        fields = None
    return build_error(status, fields, retry_after_s)


def build_error(status: int, fields: Any, retry_after_s: float | None = None) -> ApiError:
    """Return the error of a status and of an answer's ``error`` object; a value of another type is the message."""
    if not isinstance(fields, dict):
        fields = {"message": fields}
    message = str(fields.get("message") or f"the server answered {status}")
    name = str(fields.get("type") or "")
    base = _base_class(status)
    error_class = BY_TYPE.get(name, base)
    return error_class(status, name or base.type, message, retry_after_s)


def _base_class(status: int) -> type[ApiError]:
    if status == 503:
        return Unavailable
    if status < 500:
        return RequestError
    return ServerError
