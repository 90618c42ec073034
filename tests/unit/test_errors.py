from __future__ import annotations

import json

import pytest

from graycat import errors
from graycat.auth.errors import TokenNameTaken, TokenNotFound
from graycat.batches import errors as batcherrors
from graycat.errors import GraycatError, LimitExceeded
from graycat.queue import errors as taskerrors
from graycat.schedules import errors as scheduleerrors

#: Every error a caller can meet, with its status, its type, and when to come back.
KNOWN = [
    (errors.RequestError("no"), 400, "invalid_request_error", None),
    (errors.Unauthorized("no"), 401, "authentication_error", None),
    (errors.BodyTooLarge("no"), 413, "body_too_large", None),
    (errors.BrokerUnavailable(), 503, "broker_unavailable", 2),
    (errors.TaskExpired(), 503, "task_expired", 5),
    (errors.TaskLost(), 502, "task_lost", None),
    (errors.TaskTimeout(), 504, "task_timeout", None),
    (errors.TaskCancelled(), 499, "task_cancelled", None),
    (errors.EngineNotReady(), 503, "unavailable_error", 2),
    (errors.EngineLost(), 502, "engine_lost", None),
    (errors.EngineNonsense(), 502, "engine_nonsense", None),
    (errors.Forbidden("no"), 403, "permission_error", None),
    (errors.ModelNotFound("gpt"), 404, "model_not_found", None),
    (taskerrors.TaskNotFound(), 404, "task_not_found", None),
    (taskerrors.TaskGone(), 410, "task_gone", None),
    (taskerrors.IdempotencyConflict(), 409, "idempotency_conflict", None),
    (taskerrors.NotRetryable("running"), 409, "not_retryable", None),
    (errors.PromptTooLarge("no"), 413, "prompt_too_large", None),
    (errors.InvalidImage("no"), 400, "invalid_image", None),
    (errors.ImageTooLarge("no"), 413, "image_too_large", None),
    (errors.TooMuchWork("no"), 400, "too_much_work", None),
    (errors.SettingNotAllowed("no"), 400, "setting_not_allowed", None),
    (errors.ScriptNotAllowed("no"), 400, "script_not_allowed", None),
    (errors.InvalidWebhook("no"), 400, "invalid_webhook", None),
    (errors.ArtifactsUnavailable(), 503, "artifacts_unavailable", 5),
    (errors.ArtifactBroken(), 500, "artifact_broken", None),
    (errors.ShuttingDown(), 503, "shutting_down", 5),
    (TokenNotFound(), 404, "token_not_found", None),
    (TokenNameTaken("no"), 409, "token_name_taken", None),
    (LimitExceeded("no", 7), 429, "limit_exceeded", 7),
    (batcherrors.InvalidBatch([("name", "is required")]), 400, "invalid_batch", None),
    (batcherrors.BatchNotFound(), 404, "batch_not_found", None),
    (batcherrors.ItemNotFound(), 404, "batch_item_not_found", None),
    (batcherrors.BatchConflict(), 409, "batch_conflict", None),
    (batcherrors.WrongBatchState("be paused", "failed"), 409, "wrong_batch_state", None),
    (batcherrors.TooManyBatches(3), 429, "too_many_batches", 60),
    (batcherrors.OutputUnavailable("there is no space left"), 503, "output_unavailable", 30),
    (scheduleerrors.InvalidSchedule("no"), 400, "invalid_schedule", None),
    (scheduleerrors.ScheduleNotFound(), 404, "schedule_not_found", None),
    (scheduleerrors.ScheduleExists("no"), 409, "schedule_exists", None),
    (scheduleerrors.TooManySchedules(200), 429, "too_many_schedules", None),
    (errors.QueueFull("llm"), 503, "queue_full", 5),
    (GraycatError("no"), 500, "server_error", None),
]


def subclasses(base: type[GraycatError]) -> set[type[GraycatError]]:
    return {base}.union(*(subclasses(child) for child in base.__subclasses__()))


@pytest.mark.parametrize(("error", "status", "kind", "retry_after_s"), KNOWN, ids=lambda value: str(value)[:30])
def test_an_error_s_body_is_llama_cpp_s(error: GraycatError, status: int, kind: str, retry_after_s: int | None) -> None:
    body = json.loads(error.encoded())
    # Some say more beside it.
    body["error"].pop("problems", None)
    assert body == {"error": {"code": status, "message": str(error), "type": kind}}
    assert body["error"]["message"]
    assert error.retry_after_s == retry_after_s


def test_the_table_above_is_complete() -> None:
    silent = {errors.SettingsError, errors.StaleAttempt, errors.EngineError, errors.EngineLocked, errors.DownloadFailed}
    assert subclasses(GraycatError) == {type(error) for error, *_ in KNOWN} | silent


def test_the_tree_in_the_docstring_is_complete() -> None:
    missing = [error.__name__ for error in subclasses(GraycatError) if error.__name__ not in str(errors.__doc__)]
    assert missing == []


def test_an_engine_s_error_keeps_its_status_and_its_bytes() -> None:
    error = errors.EngineError(418, b'{"error" : "teapot"}\n')
    assert (error.status, error.encoded()) == (418, b'{"error" : "teapot"}\n')
    assert "teapot" not in str(error)
