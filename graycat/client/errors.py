"""What can go wrong for a client; the errors that graycat answers have the names and types of ``graycat.errors``.

ClientError
├── InvalidArgument        a call that cannot be made: an id, address or pattern that is none; nothing was sent
├── Unreachable            the server did not answer for as long as the client was told to try
├── WaitTimeout            the time is up, the task goes on
├── UnexpectedReply        whatever answered is not graycat
├── DamagedImage           an image did not arrive as it was sent, several times
└── ApiError               graycat's own answer: status, type, message, retry_after_s
    ├── RequestError  4xx  the request is at fault; the same again would bring the same
    ├── Unavailable   503  nothing was lost, trying again later makes sense
    └── ServerError   5xx  something behind graycat failed

A type that this file does not know, an engine's own included, comes as the base of its status.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any


class ClientError(Exception):
    """Base of all errors that a client raises."""


class InvalidArgument(ClientError, ValueError):
    """Raised before anything is sent, for an argument that cannot be used."""


class Unreachable(ClientError):
    """Raised when the server cannot be reached, or its answers break off, past the client's patience."""


class WaitTimeout(ClientError):
    """Raised when a task has not ended in the time that its caller would wait; the task itself goes on."""


class UnexpectedReply(ClientError):
    """Raised when an answer is not what graycat sends: the address may be another server's."""


class DamagedImage(ClientError):
    """Raised when the bytes of an image are, several times, not those that the server has."""


class ApiError(ClientError):
    """Base of what graycat answers in the place of what was asked for.

    ``status`` is the HTTP status, ``type`` the stable name of the error, ``retry_after_s`` the seconds after which
    trying again makes sense; None where the server named none.
    """

    type = ""

    def __init__(self, status: int, type: str, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.type = type
        self.message = message
        self.retry_after_s = retry_after_s


class RequestError(ApiError):
    """Raised when the server refuses a request: mend it before you send it again."""

    type = "invalid_request_error"


class Unauthorized(RequestError):
    """Raised when the API token is missing or unknown."""

    type = "authentication_error"


class Forbidden(RequestError):
    """Raised when the API token may not do this."""

    type = "permission_error"


class RouteNotFound(RequestError):
    """Raised when the server has no such route: it may be older than this client."""

    type = "not_found_error"


class MethodNotAllowed(RequestError):
    """Raised when a route takes another method: the server may be older than this client."""

    type = "method_not_allowed"


class ModelNotFound(RequestError):
    """Raised when no worker has the model that an input names."""

    type = "model_not_found"


class TaskNotFound(RequestError):
    """Raised when you have no task with this id."""

    type = "task_not_found"


class TaskGone(RequestError):
    """Raised when the task is over and its result no longer kept."""

    type = "task_gone"


class IdempotencyConflict(RequestError):
    """Raised when the id or key belongs to a task with another content."""

    type = "idempotency_conflict"


class NotRetryable(RequestError):
    """Raised when a task is to be tried again that has not failed."""

    type = "not_retryable"


class BodyTooLarge(RequestError):
    """Raised when the request has more bytes than the server takes."""

    type = "body_too_large"


class PromptTooLarge(RequestError):
    """Raised when the input's text has more characters than the server takes."""

    type = "prompt_too_large"


class InvalidImage(RequestError):
    """Raised when an image of the input is none that the server takes."""

    type = "invalid_image"


class ImageTooLarge(RequestError):
    """Raised when an image of the input has too many bytes or pixels."""

    type = "image_too_large"


class TooMuchWork(RequestError):
    """Raised when the input asks for more pixels, images or steps than one task may have."""

    type = "too_much_work"


class SettingNotAllowed(RequestError):
    """Raised when the input overrides a setting of the engine that callers may not."""

    type = "setting_not_allowed"


class ScriptNotAllowed(RequestError):
    """Raised when the input names a script of the engine that callers may not run."""

    type = "script_not_allowed"


class InvalidWebhook(RequestError):
    """Raised when a webhook's address or events cannot be used."""

    type = "invalid_webhook"


class LimitExceeded(RequestError):
    """Raised when the API token has spent its allowance; without ``retry_after_s``, the request asks for too much."""

    type = "limit_exceeded"


class TaskCancelled(RequestError):
    """Raised for the answer of a task that was cancelled."""

    type = "task_cancelled"


class Unavailable(ApiError):
    """Raised when the server cannot serve this just now."""


class QueueFull(Unavailable):
    """Raised when the queue takes no more: nothing was queued."""

    type = "queue_full"


class BrokerUnavailable(Unavailable):
    """Raised when the server's broker does not answer: nothing was queued."""

    type = "broker_unavailable"


class ShuttingDown(Unavailable):
    """Raised when the server stops before its answer is there."""

    type = "shutting_down"


class EngineNotReady(Unavailable):
    """Raised when no healthy engine serves this."""

    type = "unavailable_error"


class ArtifactsUnavailable(Unavailable):
    """Raised when the store of finished images does not answer."""

    type = "artifacts_unavailable"


class TaskExpired(Unavailable):
    """Raised for the answer of a task that no worker started in time."""

    type = "task_expired"


class ServerError(ApiError):
    """Raised when the server, or an engine behind it, failed."""

    type = "server_error"


class EngineLost(ServerError):
    """Raised when the engine went away before its answer was whole."""

    type = "engine_lost"


class EngineNonsense(ServerError):
    """Raised when the engine's answer made no sense: the same again would bring the same."""

    type = "engine_nonsense"


class TaskLost(ServerError):
    """Raised when every attempt at a task died with its worker or engine."""

    type = "task_lost"


class TaskTimeout(ServerError):
    """Raised when a task ran past its execution deadline."""

    type = "task_timeout"


class ArtifactBroken(ServerError):
    """Raised when a stored image is not what was put into the store."""

    type = "artifact_broken"


def _below(cls: type[ApiError]) -> Iterator[type[ApiError]]:
    yield cls
    for child in cls.__subclasses__():
        yield from _below(child)


#: The class of each type.
BY_TYPE = {cls.type: cls for cls in _below(ApiError) if cls.type}


def error_of(status: int, inner: Any, retry_after_s: float | None = None) -> ApiError:
    """Return the error that a status and the ``error`` object of an answer tell of; anything else is its message."""
    fields = inner if isinstance(inner, dict) else {"message": inner}
    kind, message = str(fields.get("type") or ""), str(fields.get("message") or f"the server answered {status}")
    fallback = Unavailable if status == 503 else RequestError if status < 500 else ServerError
    return BY_TYPE.get(kind, fallback)(status, kind or fallback.type, message, retry_after_s)


def error_in(status: int, body: bytes, retry_after_s: float | None = None) -> ApiError:
    """Return the error that an answer with an error status holds."""
    try:
        inner = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        inner = None
    return error_of(status, inner, retry_after_s)
