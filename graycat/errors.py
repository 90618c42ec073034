"""Errors that graycat raises on purpose.

Each knows its HTTP status and a stable ``type``, which clients may switch on; the body is the one
llama.cpp's servers use, ``{"error": {"code": status, "message": ..., "type": ...}}``.

GraycatError
├── SettingsError            only at start-up
├── RequestError        400  the caller's body cannot be used
│   ├── Unauthorized    401  no API token
│   │   └── InvalidToken     one that may not call: TokenUnknown, TokenRevoked, TokenExpired (graycat.auth.errors)
│   ├── ConflictingCredentials 400  two API tokens in one request (graycat.auth.errors)
│   ├── Forbidden       403  the API token lacks a scope
│   ├── InvalidField    400  a field has another type than its route knows
│   ├── ModelNotFound   404  no worker has the model
│   ├── UnsupportedParameter 400  an engine would leave out a part of the request without a word
│   ├── TaskNotFound    404  no task of the caller's has this id (graycat.queue.errors)
│   │   ├── ImageNotFound, PreviewNotFound  404  the task has no such image now
│   ├── TaskGone        410  the caller's task is over and forgotten (graycat.queue.errors)
│   ├── EventsGone      410  events that a reader has not got are no longer kept (graycat.queue.errors)
│   ├── EventUnknown    400  the task has no event of that id (graycat.queue.errors)
│   ├── IdempotencyConflict 409  the id or key belongs to another request (graycat.queue.errors)
│   ├── NotRetryable    409  the task has not failed, or its input is gone (graycat.queue.errors)
│   ├── InvalidBatch    400  a batch's spec, with every problem of it (graycat.batches.errors)
│   ├── BatchNotFound, ItemNotFound 404 (graycat.batches.errors)
│   ├── BatchConflict   409  the key belongs to a batch with another spec (graycat.batches.errors)
│   ├── WrongBatchState 409  the batch is not in a state for that (graycat.batches.errors)
│   ├── TooManyBatches  429  the API token has too many that are not over (graycat.batches.errors)
│   ├── TokenNotFound   404  no minted API token has this name or prefix (graycat.auth.errors)
│   ├── TokenNameTaken  409  another API token has the name (graycat.auth.errors)
│   ├── RotationUnderWay 409 the API token has two live secrets already (graycat.auth.errors)
│   ├── InvalidSchedule 400  a schedule's times cannot be used (graycat.schedules.errors)
│   ├── ScheduleNotFound, ScheduleExists, TooManySchedules 404, 409, 429 (graycat.schedules.errors)
│   ├── WorkerNotFound, QueueNotFound, WorkerRefused 404, 404, 409  an operator's command (graycat.fleet.errors)
│   ├── RequestTimeout  408  the request came too slowly (graycat.front.errors)
│   ├── BodyTooLarge    413
│   ├── PromptTooLarge  413
│   ├── GrammarTooLarge 413
│   ├── TooComplex      400  grammars, schemas, lists or nesting that would cost an engine too much
│   ├── ProxyHeaderInvalid 400 a proxy does not say whose its connection is (graycat.front.errors)
│   ├── MalformedRequest, UriTooLong, UnsupportedEncoding, ExpectationFailed, HeadersTooLarge,
│   │   UnsupportedTransferEncoding  400, 414, 415, 417, 431, 501 (graycat.front.errors)
│   ├── InvalidImage    400  no image that an engine should see (graycat.images.errors)
│   ├── ImageTooLarge   413 (graycat.images.errors)
│   ├── TooMuchWork     400  more pixels, images or steps than one request may ask for (graycat.images.errors)
│   ├── SettingNotAllowed 400  an engine's setting that callers may not override (graycat.images.errors)
│   ├── ScriptNotAllowed  400  an engine's script that callers may not run (graycat.images.errors)
│   ├── UnknownName       400  no image engine has the sampler, style, ... of that name (graycat.images.errors)
│   ├── WorkflowNotFound  404  no worker has the operator's workflow (graycat.images.errors)
│   ├── WorkflowUnavailable 409  no engine has all that the operator's workflow names (graycat.images.errors)
│   ├── PromptParameter   400  a text that sets parameters of an engine (graycat.images.errors)
│   └── InvalidWebhook  400  an address that may not be requested, or an unknown event (graycat.webhooks.errors)
├── LimitExceeded       429  the API token is over one of its limits
│   └── StoredBytesExceeded 429 its tasks hold as many bytes as they may
├── NotAProxy           403  the port is for proxies alone (graycat.front.errors)
├── TooManyConnections  429  the client's address has too many (graycat.front.errors)
├── ServerBusy          503  the web process has too many connections, or bytes of bodies (graycat.front.errors)
├── QueueFull           503  nothing was queued
├── BrokerUnavailable   503  nothing can be accepted just now
│   ├── BrokerFull      503  the broker has no room for more tasks
│   └── BrokerKeyUnusable 503 another program has written over a key; it is moved aside
├── BrokerDataLost      503  the broker came back without the task (graycat.queue.errors)
├── ShuttingDown        503  this process stops before the answer is there
├── TaskExpired         503  no worker started the task in time
├── TaskLost            502  its workers died, more often than a task may be tried
├── TaskTimeout         504  the engine took longer than the task may run
├── WorkerSilent        504  a worker does not answer an operator's command (graycat.fleet.errors)
├── TaskCancelled       499  the caller asked for it, or the client disconnected
├── EngineNotReady      503  no healthy engine serves this
│   ├── ModelNotReady   503  none that is ready has the model, and one still loads
│   └── NoSuchEngine    503  this server runs no engine of that family
├── EngineError              what an engine answered: its own status and body
├── EngineLost          502  the engine broke off in the middle
│   ├── EngineUnauthorized         never leaves its worker: the engine refuses the worker's key
│   └── EngineUnusable             never leaves its worker: what answers cannot be used (graycat.engines.base)
├── EngineKilled        502  the request has ended its engine's process, more than once
├── KindUnknown         501  every worker that took the task is of an older release (graycat.queue.errors)
├── EngineProtocolError      502  the engine sent an invalid response
├── ArtifactsUnavailable 503  the store of finished images does not answer (graycat.storage.errors)
├── ArtifactBroken      500  a finished image is not what was stored (graycat.storage.errors)
├── OutputUnavailable   503  the files of a batch cannot be written or read (graycat.batches.errors)
├── BackupError              never leaves its command: no backup was made, or none restored (graycat.backup.errors)
├── DownloadFailed           never leaves its machine: a checkpoint cannot be had (graycat.engines.models.errors)
└── StaleAttempt             never leaves the worker: another attempt owns the task
"""

from __future__ import annotations

import json
from typing import Any, Self


class GraycatError(Exception):
    """Base of all errors with an answer for the caller."""

    status = 500
    type = "server_error"
    #: Seconds after which trying again makes sense; sent as ``Retry-After``.
    retry_after_s: int | None = None

    def body(self) -> dict[str, Any]:
        """Return the JSON object that the caller reads."""
        return {"error": {"code": self.status, "message": str(self), "type": self.type}}

    def encoded(self) -> bytes:
        """Return the body as JSON bytes."""
        return json.dumps(self.body()).encode()


class SettingsError(GraycatError):
    """Raised at start-up when a setting cannot be used; the message names its variable.

    ``others``: further problems that were found with it.
    """

    def __init__(self, message: str, *others: str) -> None:
        super().__init__(message)
        self.problems = (message, *others)


class RequestError(GraycatError):
    """Raised when the caller's request cannot be used."""

    status, type = 400, "invalid_request_error"
    #: The path of the field that is wrong; '' if it is none, or not a single one.
    param = ""

    def at(self, param: str) -> Self:
        """Return this error, which now tells the path of its field."""
        self.param = param
        return self

    def body(self) -> dict[str, Any]:
        """Return the JSON object that the caller reads; OpenAI's clients know the field ``param``."""
        body = super().body()
        if self.param:
            body["error"]["param"] = self.param
        return body


class InvalidField(RequestError):
    """Raised when a field of the body cannot be used, such as one of a wrong type. ``param``: the path of the field."""

    def __init__(self, param: str, reason: str) -> None:
        super().__init__(f"{param!r}: {reason}")
        self.param, self.reason = param, reason


class Unauthorized(RequestError):
    """Raised when the API token is missing; ``graycat.auth.errors`` has those for one that may not call."""

    status, type = 401, "authentication_error"


class BodyTooLarge(RequestError):
    """Raised when a request body is over ``GRAYCAT_MAX_BODY_BYTES``."""

    status, type = 413, "body_too_large"


class Forbidden(RequestError):
    """Raised when the API token lacks the scope that a route needs."""

    status, type = 403, "permission_error"


class ModelNotFound(RequestError):
    """Raised when no worker's engine has the model that a request names.

    ``alias``: how the caller wrote its name. ``path``: its field, where a request may name several models.
    """

    status, type = 404, "model_not_found"

    def __init__(self, model: str, alias: str = "", path: str = "") -> None:
        field = f"{path!r}: " if path else ""
        meant = f", which {alias[:100]!r} stands for," if alias else ""
        # The list has text models and image models: one that is listed may be named on the wrong route.
        super().__init__(
            f"{field}no engine serves the model {model[:100]!r}{meant} here; GET /v1/models lists those that are "
            "served: those with 'type': 'image' make images, the others write text"
        )


class UnsupportedParameter(InvalidField):
    """Raised when an engine would leave out a part of the request without a word."""

    type = "unsupported_parameter"


class PromptTooLarge(RequestError):
    """Raised when a request's text is over ``GRAYCAT_MAX_PROMPT_CHARS``."""

    status, type = 413, "prompt_too_large"


class GrammarTooLarge(RequestError):
    """Raised when a request's grammar or JSON schemas have more bytes than an engine should turn into rules."""

    status, type = 413, "grammar_too_large"


class TooComplex(RequestError):
    """Raised when a request would cost an engine too much; the message names the place, the limit and its setting."""

    type = "too_complex"


class LimitExceeded(GraycatError):
    """Raised when an API token is over one of its limits; ``headers`` are the ``RateLimit-*`` ones."""

    status, type = 429, "limit_exceeded"

    def __init__(self, message: str, retry_after_s: int | None = None, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        # None if waiting does not help: the request itself asks for too much.
        self.retry_after_s = retry_after_s
        self.headers = headers or {}


class StoredBytesExceeded(LimitExceeded):
    """Raised when the tasks of an API token or a player hold as many bytes as they may: nothing was accepted."""

    type = "stored_bytes_exceeded"

    def __init__(self, whose: str, limit: int) -> None:
        super().__init__(
            f"the inputs of the tasks and batches of {whose} may have {limit} bytes together, nothing was queued; "
            "wait until some have ended, or send less",
            retry_after_s=5,
        )


class QueueFull(GraycatError):
    """Raised when a queue holds as many tasks as it may: nothing was accepted."""

    status, type, retry_after_s = 503, "queue_full", 5

    def __init__(self, queue: str) -> None:
        super().__init__(f"the queue {queue!r} is full, nothing was queued; try again later")


class BrokerUnavailable(GraycatError):
    """Raised when the broker does not answer: nothing was accepted."""

    status, type, retry_after_s = 503, "broker_unavailable", 2

    def __init__(self) -> None:
        super().__init__("the broker does not answer, nothing was queued; try again in a moment")


class BrokerFull(BrokerUnavailable):
    """Raised when the broker has no room for more: what runs goes on, and nothing new is accepted."""

    type, retry_after_s = "broker_full", 5

    def __init__(self) -> None:
        GraycatError.__init__(
            self, "the broker has no room for more tasks, nothing was queued; try again when some have ended"
        )


class BrokerKeyUnusable(BrokerUnavailable):
    """Raised in a request that needs a key over which another program has written; the key is moved aside."""

    def __init__(self) -> None:
        GraycatError.__init__(
            self, "another program has written over a key in the broker, nothing was queued; try again in a moment"
        )


class ShuttingDown(GraycatError):
    """Raised in requests that still wait when their web process has to stop."""

    status, type, retry_after_s = 503, "shutting_down", 5

    def __init__(self) -> None:
        super().__init__("this server stops; send the request again in a moment")


class TaskExpired(GraycatError):
    """Raised when no worker started a task before its queue deadline."""

    status, type, retry_after_s = 503, "task_expired", 5

    def __init__(self) -> None:
        super().__init__("no worker was free before the task's queue deadline; try again later")


class TaskLost(GraycatError):
    """Raised when every attempt at a task died with its worker or engine."""

    status, type = 502, "task_lost"

    def __init__(self) -> None:
        super().__init__("the task was tried as often as allowed and no attempt finished")


class TaskTimeout(GraycatError):
    """Raised when a task ran longer than its execution deadline."""

    status, type = 504, "task_timeout"

    def __init__(self) -> None:
        super().__init__("the task ran past its execution deadline and was stopped")


class TaskCancelled(GraycatError):
    """Raised when a task was cancelled while a request waited for it."""

    status, type = 499, "task_cancelled"

    def __init__(self) -> None:
        super().__init__("the task was cancelled")


class EngineNotReady(GraycatError):
    """Raised when a question needs a healthy engine and no worker has one."""

    # llama.cpp's own answer while it loads, which its clients know.
    status, type = 503, "unavailable_error"
    retry_after_s: int | None = 2

    def __init__(self) -> None:
        super().__init__("no engine is ready: it loads its model, or no worker runs; /ready tells which")


class ModelNotReady(EngineNotReady):
    """Raised when no engine that is ready has a model, and one that still loads may have it."""

    def __init__(self, model: str) -> None:
        GraycatError.__init__(
            self, f"no engine that is ready has the model {model[:100]!r}, and one still loads; try again in a moment"
        )


class NoSuchEngine(EngineNotReady):
    """Raised when a request needs an engine of a family that this server does not run: waiting does not help."""

    retry_after_s = None

    def __init__(self, purpose: str, variable: str) -> None:
        GraycatError.__init__(
            self, f"this server runs no engine that {purpose} ({variable}=false), and no worker elsewhere has one"
        )


class EngineError(GraycatError):
    """Raised when an engine answers with an error; status and body are the engine's own."""

    def __init__(self, status: int, reply: bytes) -> None:
        super().__init__(f"the engine answered {status}")
        self.status = status
        self.reply = reply
        if status == 503:
            self.retry_after_s = 5

    def encoded(self) -> bytes:
        """Return the engine's body as it came."""
        return self.reply


class EngineLost(GraycatError):
    """Raised when the connection to the engine breaks before its answer is whole."""

    status, type = 502, "engine_lost"

    def __init__(self) -> None:
        super().__init__("the engine went away before its answer was whole; send the request again")


class EngineUnauthorized(EngineLost):
    """Raised when an engine refuses the key or password that its worker sends."""


class EngineKilled(GraycatError):
    """Raised when a task has ended engine processes: trying again would end the next one."""

    status, type = 502, "engine_killed"

    def __init__(self) -> None:
        super().__init__("this request has ended its engine more than once, and is not tried again; change the request")


class EngineProtocolError(GraycatError):
    """Raised when an engine's answer is not what its wire allows: trying again would bring the same."""

    status, type = 502, "engine_nonsense"

    def __init__(self, what: str = "") -> None:
        """``what``: a sentence's end that says what is wrong; it has nothing of the answer's text."""
        reason = ""
        if what:
            reason = f" ({what})"
        super().__init__(
            f"the engine's answer makes no sense{reason}; tell the operator, the engine may be of another kind"
        )


class StaleAttempt(GraycatError):
    """Raised in a worker whose attempt has lost the task to a newer one, or to its end."""
