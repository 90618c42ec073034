from __future__ import annotations

import json

import pytest

from graycat.errors import EngineError
from graycat.tasks.llm_blame import blame_caller
from tests.support.helpers import Valkey
from tests.support.servers import reply
from tests.support.workers import worker_on

#: What llama.cpp (build 11549) says with 500 of bodies that are at fault.
CALLERS = [
    "'messages' is required",
    'Failed to parse messages: Missing \'role\' in message: {"content":"x"}',
    "Failed to parse tools: Expected 'tools' to be an array, got 5; tools = 5",
    "[json.exception.out_of_range.403] key 'prompt' not found",
    "image input is not supported - hint: if this is unexpected, you may need to provide the mmproj",
    "Unknown reasoning format: zz",
    "While executing CallExpression at line 6:\nError: Jinja Exception: Conversation roles must alternate",
]


def error_of(message: object, status: int = 500) -> EngineError:
    body = {"error": {"code": status, "message": message, "type": "server_error"}}
    return EngineError(status, json.dumps(body).encode())


@pytest.mark.parametrize("message", CALLERS)
def test_a_fault_of_the_body_is_the_caller_s(message: str) -> None:
    blamed = blame_caller(error_of(message))
    assert blamed.status == 400
    told = {"code": 400, "message": message, "type": "invalid_request_error"}
    assert json.loads(blamed.reply) == {"error": told}


def test_a_number_that_is_no_token_is_named(broker: Valkey) -> None:
    error = error_of("vector::_M_range_check: __n (which is 99) >= this->size() (which is 9)")
    with worker_on(broker, {"POST /detokenize": reply(500, error.reply)}) as worker:
        task_id = worker.accept(kind="llm.detokenize", mode="plain", body=b'{"tokens": [99]}')
        worker.run(task_id)
        assert worker.ended(task_id) == ("failed", "400")
        status, body = worker.records.events(task_id)[-1].answer()
    assert (status, json.loads(body)["error"]["message"][:8]) == (400, "'tokens'")


@pytest.mark.parametrize(
    "error",
    [
        error_of("Compute error."),
        error_of(None),
        error_of("'messages' is required", 503),
        EngineError(500, b"[]"),
        EngineError(500, b'{"error": "x"}'),
    ],
)
def test_an_error_of_the_engine_stays_its_own(error: EngineError) -> None:
    assert blame_caller(error) is error
