"""Errors of the client. For every ``type`` of error that the server answers there is one class.

The classes have the names that the server's errors have, except EngineNonsense (EngineProtocolError in the server).

ClientError
├── InvalidArgument        an argument is invalid (an id, an address, a pattern); nothing was sent
├── Unreachable            the server did not answer for as long as the client was told to try
├── WaitTimeout            the time is up; the task goes on
├── UnexpectedReply        the answer does not come from graycat
├── DamagedImage           an image arrived damaged, several times
└── ApiError               graycat answered with an error: status, type, message, retry_after_s
    ├── RequestError  4xx  the request is at fault; sending it again would fail again
    ├── Unavailable   503  the server cannot do this now; try again later
    └── ServerError   5xx  the server, or an engine behind it, failed

A type that is in none of the files of errors here, such as an engine's own, is raised as the base class of its status.
"""

from __future__ import annotations


class ClientError(Exception):
    """Base of all errors that a client raises."""


class InvalidArgument(ClientError, ValueError):
    """Raised before anything is sent, for an argument that cannot be used."""


class Unreachable(ClientError):
    """Raised when the server cannot be reached, or its answers break off, for longer than ``patience_s``."""


class WaitTimeout(ClientError):
    """Raised when a task has not ended within the timeout of a wait; the task itself goes on."""


class UnexpectedReply(ClientError):
    """Raised when an answer is not what graycat sends: the address may be that of another server."""


class DamagedImage(ClientError):
    """Raised when the bytes of an image differ, several times, from those that the server has."""


class ApiError(ClientError):
    """Base of the errors that graycat answers.

    ``status`` is the HTTP status, ``type`` the stable name of the error, ``retry_after_s`` the seconds after which
    another attempt makes sense, or None if the server named none.
    """

    type = ""

    def __init__(self, status: int, type: str, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.type = type
        self.message = message
        self.retry_after_s = retry_after_s


class RequestError(ApiError):
    """Raised when the server refuses a request: correct it before you send it again."""

    type = "invalid_request_error"


class Unauthorized(RequestError):
    """Raised when the API token is missing; its subclasses if one was sent that may not call."""

    type = "authentication_error"


class Forbidden(RequestError):
    """Raised when the API token may not do this."""

    type = "permission_error"


class RouteNotFound(RequestError):
    """Raised when the server has no such route: it may be older than this client."""

    type = "not_found_error"


class MethodNotAllowed(RequestError):
    """Raised when the route does not support the HTTP method: the server may be older than this client."""

    type = "method_not_allowed"


class ModelNotFound(RequestError):
    """Raised when no worker has the model that an input names."""

    type = "model_not_found"


class UnsupportedParameter(RequestError):
    """Raised when the engine would leave out a part of an input without a word."""

    type = "unsupported_parameter"


class TaskNotFound(RequestError):
    """Raised when your API token has no task with this id."""

    type = "task_not_found"


class TaskGone(RequestError):
    """Raised when the task is over and the server no longer keeps its result."""

    type = "task_gone"


class EventsGone(RequestError):
    """Raised when the server no longer keeps events that the caller has not got."""

    type = "events_gone"


class EventUnknown(RequestError):
    """Raised when the task has no event of the id after which the caller wants to read."""

    type = "event_unknown"


class IdempotencyConflict(RequestError):
    """Raised when the id or key belongs to a task with other content."""

    type = "idempotency_conflict"


class NotRetryable(RequestError):
    """Raised when a task cannot be retried: it has not failed, or the server no longer keeps its input."""

    type = "not_retryable"


class BodyTooLarge(RequestError):
    """Raised when the request has more bytes than the server accepts."""

    type = "body_too_large"


class PromptTooLarge(RequestError):
    """Raised when the input's text has more characters than the server accepts."""

    type = "prompt_too_large"


class GrammarTooLarge(RequestError):
    """The request's grammar or JSON schemas are too large."""

    type = "grammar_too_large"


class TooComplex(RequestError):
    """A grammar, a schema, a list or the nesting of the request would cost an engine too much."""

    type = "too_complex"


class InvalidImage(RequestError):
    """Raised when an image of the input is invalid, or of a format that the server does not accept."""

    type = "invalid_image"


class ImageTooLarge(RequestError):
    """Raised when an image of the input has too many bytes or pixels."""

    type = "image_too_large"


class TooMuchWork(RequestError):
    """Raised when the input asks for more pixels, images or steps than one task may have."""

    type = "too_much_work"


class SettingNotAllowed(RequestError):
    """Raised when the input overrides a setting of the engine that callers may not override."""

    type = "setting_not_allowed"


class ScriptNotAllowed(RequestError):
    """Raised when the input names a script of the engine that callers may not run."""

    type = "script_not_allowed"


class InvalidWebhook(RequestError):
    """Raised when a webhook's address or events cannot be used."""

    type = "invalid_webhook"


class InvalidBatch(RequestError):
    """Raised when a batch's spec is invalid; the message lists the problems."""

    type = "invalid_batch"


class BatchNotFound(RequestError):
    """Raised when your API token has no batch with this id."""

    type = "batch_not_found"


class ItemNotFound(RequestError):
    """Raised when the batch has no item with this number, or the item has no image yet."""

    type = "batch_item_not_found"


class BatchConflict(RequestError):
    """Raised when the key belongs to a batch with another spec."""

    type = "batch_conflict"


class WrongBatchState(RequestError):
    """Raised when the batch's state does not allow this, for example to pause a batch that has ended."""

    type = "wrong_batch_state"


class TooManyBatches(RequestError):
    """Raised when your API token has as many unfinished batches as it may have."""

    type = "too_many_batches"


class InvalidSchedule(RequestError):
    """Raised when a schedule is invalid; the message names its field."""

    type = "invalid_schedule"


class ScheduleNotFound(RequestError):
    """Raised when your API token has no schedule of this name."""

    type = "schedule_not_found"


class ScheduleExists(RequestError):
    """Raised when another schedule has the name, or the operator's file of schedules defines it."""

    type = "schedule_exists"


class TooManySchedules(RequestError):
    """Raised when your API token has as many schedules as it may have."""

    type = "too_many_schedules"


class TokenNotFound(RequestError):
    """Raised when no minted API token has this name or prefix."""

    type = "token_not_found"


class TokenNameTaken(RequestError):
    """Raised when another API token has the name."""

    type = "token_name_taken"


class LimitExceeded(RequestError):
    """Raised when the API token is over a limit; without ``retry_after_s``, the request itself asks for too much."""

    type = "limit_exceeded"


class StoredBytesExceeded(LimitExceeded):
    """Raised when the inputs of the API token's tasks hold as many bytes as they may: nothing was queued."""

    type = "stored_bytes_exceeded"


class TaskCancelled(RequestError):
    """Raised for the answer of a task that was cancelled."""

    type = "task_cancelled"


class Unavailable(ApiError):
    """Raised when the server cannot do this now; the same request may succeed later."""


class QueueFull(Unavailable):
    """Raised when the queue is full: nothing was queued."""

    type = "queue_full"


class BrokerUnavailable(Unavailable):
    """Raised when the server's broker does not answer: nothing was queued."""

    type = "broker_unavailable"


class BrokerFull(BrokerUnavailable):
    """Raised when the server's broker has no room for more tasks: nothing was queued."""

    type = "broker_full"


class BrokerDataLost(Unavailable):
    """Raised when the server's broker has lost its data, and the task with it."""

    type = "broker_data_lost"


class ShuttingDown(Unavailable):
    """Raised when the server stops before its answer is there."""

    type = "shutting_down"


class EngineNotReady(Unavailable):
    """Raised when no healthy engine can do this."""

    type = "unavailable_error"


class ArtifactsUnavailable(Unavailable):
    """Raised when the store of finished images does not answer."""

    type = "artifacts_unavailable"


class OutputUnavailable(Unavailable):
    """Raised when the server cannot read or write the files of a batch."""

    type = "output_unavailable"


class TaskExpired(Unavailable):
    """Raised for the answer of a task that no worker started in time."""

    type = "task_expired"


class ServerError(ApiError):
    """Raised when the server, or an engine behind it, failed."""

    type = "server_error"


class EngineLost(ServerError):
    """Raised when the engine stopped before its answer was complete."""

    type = "engine_lost"


class EngineKilled(ServerError):
    """Raised when a request has ended its engine more than once: change the request."""

    type = "engine_killed"


class KindUnknown(ServerError):
    """Raised when the workers are of an older release and do not know such tasks."""

    type = "kind_unknown"


class EngineNonsense(ServerError):
    """Raised when the engine sent an invalid response; sending the request again would fail again."""

    type = "engine_nonsense"


class TaskLost(ServerError):
    """Raised when the worker or engine died in every attempt at a task."""

    type = "task_lost"


class TaskTimeout(ServerError):
    """Raised when a task ran past its execution deadline."""

    type = "task_timeout"


class ArtifactBroken(ServerError):
    """Raised when a stored image is damaged."""

    type = "artifact_broken"
