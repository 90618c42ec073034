"""Which refused requests a client may send again by itself, and after how long: ``Retry-After`` and ``X-Should-Retry``.

The SDKs of OpenAI and Anthropic send a request again after 408, 409, 429 and each 5xx, twice, and sleep inside of the
call for as long as ``Retry-After`` says; ``X-Should-Retry: false`` makes them raise at once (docs/errors.md has what
was measured).
"""

from __future__ import annotations

from graycat.bounds.stored import parse_json
from graycat.errors import EngineError, GraycatError, LimitExceeded

SHOULD_RETRY = "X-Should-Retry"
#: Seconds that a client's program may be kept in a call, twice; a longer time is for the program itself to decide on.
MAX_SLEEP_S = 20
#: Errors that the same request would meet again: some of them after it has cost an engine as much once more.
FINAL_TYPES = frozenset(
    {
        *("task_timeout", "engine_killed", "engine_nonsense", "kind_unknown"),
        *("idempotency_conflict", "batch_conflict", "not_retryable", "wrong_batch_state"),
        *("schedule_exists", "token_name_taken", "rotation_under_way", "too_many_schedules"),
        *("artifact_broken",),
    }
)
#: What such SDKs send again, besides each 5xx.
RETRIED_STATUSES = frozenset({408, 409, 429})


def retry_headers(error: GraycatError) -> dict[str, str]:
    """Return the headers that tell a client whether and when to send its request again."""
    found = {}
    if error.retry_after_s is not None:
        found["Retry-After"] = str(error.retry_after_s)
    if (error.status in RETRIED_STATUSES or error.status >= 500) and _is_final(error):
        found[SHOULD_RETRY] = "false"
    return found


def _is_final(error: GraycatError) -> bool:
    if error.retry_after_s is not None:
        return error.retry_after_s > MAX_SLEEP_S
    # Without a time: this request is over a limit by itself, or nothing here can ever serve it.
    return isinstance(error, LimitExceeded) or error.status == 503 or _type_of(error) in FINAL_TYPES


def _type_of(error: GraycatError) -> str:
    """Return an error's type; of one that came as a task's event, the type in its body."""
    if not isinstance(error, EngineError):
        return error.type
    try:
        return str(parse_json(error.reply)["error"]["type"])
    except (ValueError, KeyError, TypeError):
        return error.type
