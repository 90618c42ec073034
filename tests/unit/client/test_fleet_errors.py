from __future__ import annotations

import pytest

from graycat.client import fleet_errors
from graycat.client.error_parsing import build_error
from graycat.client.errors import RequestError, ServerError


@pytest.mark.parametrize(
    ("status", "kind", "expected", "base"),
    [
        (404, "worker_not_found", fleet_errors.WorkerNotFound, RequestError),
        (404, "queue_not_found", fleet_errors.QueueNotFound, RequestError),
        (409, "worker_refused", fleet_errors.WorkerRefused, RequestError),
        (504, "worker_silent", fleet_errors.WorkerSilent, ServerError),
    ],
)
def test_an_operator_s_command_that_fails_has_a_class(
    status: int, kind: str, expected: type[Exception], base: type[Exception]
) -> None:
    error = build_error(status, {"type": kind, "message": "no"})
    assert type(error) is expected
    assert isinstance(error, base)
