from __future__ import annotations

import json

import pytest

from graycat.auth.errors import (
    ConflictingCredentials,
    InvalidToken,
    RotationUnderWay,
    TokenExpired,
    TokenNameTaken,
    TokenNotFound,
    TokenRevoked,
    TokenUnknown,
)
from graycat.backup.errors import BackupError
from graycat.batches import errors as batcherrors
from graycat.batches.errors import InvalidBatch, OutputUnavailable
from graycat.engines.base import EngineUnusable
from graycat.engines.models.errors import DownloadFailed
from graycat.errors import (
    BodyTooLarge,
    BrokerFull,
    BrokerKeyUnusable,
    BrokerUnavailable,
    EngineError,
    EngineKilled,
    EngineLost,
    EngineNotReady,
    EngineProtocolError,
    EngineUnauthorized,
    Forbidden,
    GrammarTooLarge,
    GraycatError,
    InvalidField,
    LimitExceeded,
    ModelNotFound,
    ModelNotReady,
    NoSuchEngine,
    PromptTooLarge,
    QueueFull,
    RequestError,
    SettingsError,
    ShuttingDown,
    StaleAttempt,
    StoredBytesExceeded,
    TaskCancelled,
    TaskExpired,
    TaskLost,
    TaskTimeout,
    TooComplex,
    Unauthorized,
    UnsupportedParameter,
    __doc__,
)
from graycat.fleet import errors as fleeterrors
from graycat.front import errors as fronterrors
from graycat.images.engine_names import Unknown
from graycat.images.errors import (
    ImageTooLarge,
    InvalidImage,
    PromptParameter,
    ScriptNotAllowed,
    SettingNotAllowed,
    TooMuchWork,
    UnknownName,
    WorkflowNotFound,
    WorkflowUnavailable,
)
from graycat.queue import errors as taskerrors
from graycat.queue.errors import BrokerDataLost, KindUnknown, NotRetryable
from graycat.schedules import errors as scheduleerrors
from graycat.schedules.errors import ScheduleNotFound, TooManySchedules
from graycat.storage.errors import ArtifactBroken, ArtifactsUnavailable
from graycat.webhooks.errors import InvalidWebhook
from tests.support.errortree import all_errors

#: Every error a caller can meet, with its status, its type, and when to come back.
KNOWN = [
    (RequestError("no"), 400, "invalid_request_error", None),
    (InvalidField("stop", "must be a string"), 400, "invalid_request_error", None),
    (Unauthorized("no"), 401, "authentication_error", None),
    (InvalidToken("no"), 401, "authentication_error", None),
    (TokenUnknown(), 401, "token_unknown", None),
    (TokenRevoked("no"), 401, "token_revoked", None),
    (TokenExpired(), 401, "token_expired", None),
    (ConflictingCredentials(), 400, "conflicting_credentials", None),
    (BodyTooLarge("no"), 413, "body_too_large", None),
    (BrokerUnavailable(), 503, "broker_unavailable", 2),
    (BrokerKeyUnusable(), 503, "broker_unavailable", 2),
    (BrokerFull(), 503, "broker_full", 5),
    (StoredBytesExceeded("this player", 1), 429, "stored_bytes_exceeded", 5),
    (TaskExpired(), 503, "task_expired", 5),
    (TaskLost(), 502, "task_lost", None),
    (TaskTimeout(), 504, "task_timeout", None),
    (TaskCancelled(), 499, "task_cancelled", None),
    (EngineNotReady(), 503, "unavailable_error", 2),
    (ModelNotReady("gpt"), 503, "unavailable_error", 2),
    (EngineKilled(), 502, "engine_killed", None),
    (KindUnknown(), 501, "kind_unknown", None),
    (EngineLost(), 502, "engine_lost", None),
    (EngineProtocolError(), 502, "engine_nonsense", None),
    (Forbidden("no"), 403, "permission_error", None),
    (ModelNotFound("gpt"), 404, "model_not_found", None),
    (UnsupportedParameter("tools", "why"), 400, "unsupported_parameter", None),
    (taskerrors.TaskNotFound(), 404, "task_not_found", None),
    (taskerrors.ImageNotFound(1), 404, "task_not_found", None),
    (taskerrors.PreviewNotFound(), 404, "task_not_found", None),
    (taskerrors.TaskGone(), 410, "task_gone", None),
    (taskerrors.EventsGone(), 410, "events_gone", None),
    (taskerrors.EventUnknown(), 400, "event_unknown", None),
    (taskerrors.IdempotencyConflict(), 409, "idempotency_conflict", None),
    (taskerrors.NotRetryable("running"), 409, "not_retryable", None),
    (PromptTooLarge("no"), 413, "prompt_too_large", None),
    (GrammarTooLarge("no"), 413, "grammar_too_large", None),
    (TooComplex("no"), 400, "too_complex", None),
    (InvalidImage("no"), 400, "invalid_image", None),
    (ImageTooLarge("no"), 413, "image_too_large", None),
    (TooMuchWork("no"), 400, "too_much_work", None),
    (SettingNotAllowed("no"), 400, "setting_not_allowed", None),
    (ScriptNotAllowed("no"), 400, "script_not_allowed", None),
    (UnknownName(Unknown("sampler_name", "sampler", "Eular")), 400, "unknown_name", None),
    (WorkflowNotFound("no"), 404, "workflow_not_found", None),
    (WorkflowUnavailable("fox", ["no"]), 409, "workflow_unavailable", None),
    (PromptParameter("prompt", "no"), 400, "prompt_parameter", None),
    (InvalidWebhook("no"), 400, "invalid_webhook", None),
    (ArtifactsUnavailable(), 503, "artifacts_unavailable", 5),
    (ArtifactBroken(), 500, "artifact_broken", None),
    (BrokerDataLost(), 503, "broker_data_lost", 2),
    (ShuttingDown(), 503, "shutting_down", 5),
    (TokenNotFound(), 404, "token_not_found", None),
    (TokenNameTaken("no"), 409, "token_name_taken", None),
    (RotationUnderWay(60), 409, "rotation_under_way", None),
    (LimitExceeded("no", 7), 429, "limit_exceeded", 7),
    (batcherrors.InvalidBatch([("name", "is required")]), 400, "invalid_batch", None),
    (batcherrors.BatchNotFound(), 404, "batch_not_found", None),
    (batcherrors.ItemNotFound(), 404, "batch_item_not_found", None),
    (batcherrors.BatchConflict(), 409, "batch_conflict", None),
    (batcherrors.WrongBatchState("be paused", "failed"), 409, "wrong_batch_state", None),
    (batcherrors.TooManyBatches(3), 429, "too_many_batches", 60),
    (batcherrors.OutputUnavailable("there is no space left"), 503, "output_unavailable", 30),
    (fleeterrors.WorkerNotFound(), 404, "worker_not_found", None),
    (fleeterrors.QueueNotFound(["llm"]), 404, "queue_not_found", None),
    (fleeterrors.WorkerRefused("no"), 409, "worker_refused", None),
    (fleeterrors.WorkerSilent(), 504, "worker_silent", None),
    (scheduleerrors.InvalidSchedule("no"), 400, "invalid_schedule", None),
    (scheduleerrors.ScheduleNotFound(), 404, "schedule_not_found", None),
    (scheduleerrors.ScheduleExists("no"), 409, "schedule_exists", None),
    (scheduleerrors.TooManySchedules(200), 429, "too_many_schedules", None),
    (NoSuchEngine("makes text", "RUN_LLM"), 503, "unavailable_error", None),
    (QueueFull("llm"), 503, "queue_full", 5),
    (fronterrors.TooManyConnections(), 429, "too_many_connections", 5),
    (fronterrors.NotAProxy(), 403, "not_a_proxy", None),
    (fronterrors.ProxyHeaderInvalid(), 400, "proxy_header_invalid", None),
    (fronterrors.ServerBusy(), 503, "server_busy", 2),
    (fronterrors.RequestTimeout(), 408, "request_timeout", None),
    (fronterrors.MalformedRequest(), 400, "malformed_request", None),
    (fronterrors.UriTooLong(), 414, "uri_too_long", None),
    (fronterrors.UnsupportedEncoding(), 415, "unsupported_encoding", None),
    (fronterrors.ExpectationFailed(), 417, "expectation_failed", None),
    (fronterrors.HeadersTooLarge(), 431, "headers_too_large", None),
    (fronterrors.UnsupportedTransferEncoding(), 501, "unsupported_transfer_encoding", None),
    (GraycatError("no"), 500, "server_error", None),
]


@pytest.mark.parametrize(("error", "status", "kind", "retry_after_s"), KNOWN, ids=lambda value: str(value)[:30])
def test_an_error_s_body_is_llama_cpp_s(error: GraycatError, status: int, kind: str, retry_after_s: int | None) -> None:
    body = json.loads(error.encoded())
    # Some say more beside it.
    body["error"].pop("problems", None)
    body["error"].pop("param", None)
    assert body == {"error": {"code": status, "message": str(error), "type": kind}}
    assert body["error"]["message"]
    assert error.retry_after_s == retry_after_s


def test_the_table_above_is_complete() -> None:
    silent = {SettingsError, StaleAttempt, EngineError, EngineUnauthorized, EngineUnusable, DownloadFailed, BackupError}
    assert all_errors() == {type(error) for error, *_ in KNOWN} | silent


def test_the_tree_in_the_docstring_is_complete() -> None:
    missing = [error.__name__ for error in all_errors() if error.__name__ not in str(__doc__)]
    assert missing == []


def test_an_engine_s_error_keeps_its_status_and_its_bytes() -> None:
    error = EngineError(418, b'{"error" : "teapot"}\n')
    assert (error.status, error.encoded()) == (418, b'{"error" : "teapot"}\n')
    assert "teapot" not in str(error)


def test_a_task_that_cannot_be_retried_tells_its_state() -> None:
    assert "running" in str(NotRetryable("running"))


def test_who_has_too_many_is_told_how_many_that_are_and_not_to_wait() -> None:
    assert "200" in str(TooManySchedules(200))
    assert TooManySchedules(200).retry_after_s is None


def test_who_looks_for_what_is_not_there_is_told_where_to_look() -> None:
    assert "GET /schedules" in str(ScheduleNotFound())


def test_where_waiting_does_not_help_nobody_is_told_to_wait() -> None:
    assert (LimitExceeded("too much").retry_after_s, LimitExceeded("too much").headers) == (None, {})


def test_where_it_helps_the_caller_is_told_how_long() -> None:
    error = LimitExceeded("too often", 7, {"RateLimit-Remaining": "0"})
    assert (error.retry_after_s, error.headers) == (7, {"RateLimit-Remaining": "0"})


def test_every_problem_of_a_spec_is_told_with_its_path() -> None:
    error = InvalidBatch([("name", "is required"), ("", "asks for too much")])
    assert str(error) == "name: is required; asks for too much"
    assert error.body()["error"]["problems"] == [
        {"path": "name", "message": "is required"},
        {"path": "", "message": "asks for too much"},
    ]


def test_why_an_output_cannot_be_used_is_kept_apart() -> None:
    assert OutputUnavailable("there is no space left").reason == "there is no space left"
