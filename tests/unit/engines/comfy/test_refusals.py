from __future__ import annotations

import json
from typing import Any

import pytest

from graycat.engines.comfy.refusals import failure, refusal
from graycat.engines.comfy.wire import History

WORKFLOW = {"3": {"class_type": "KSampler", "inputs": {}}}
TRACE = {"type": "exception_during_validation", "details": "Traceback /srv/comfy", "extra_info": {"input_name": "seed"}}


def told(status: int, answer: Any) -> tuple[int, str, str]:
    code, body = refusal(status, answer, WORKFLOW)
    error = json.loads(body)["error"]
    return code, error["type"], error["message"]


def test_a_wrong_input_is_named_without_the_engine_s_words() -> None:
    errors = [TRACE, {"type": "value_not_in_list", "extra_info": {"input_name": "sampler_name"}}]
    code, kind, message = told(400, {"error": {}, "node_errors": {"3": {"errors": errors}}})
    assert (code, kind) == (400, "workflow_refused")
    assert "KSampler (3): 'seed'" in message
    assert "'sampler_name' is none of the engine's choices" in message
    assert "/srv" not in message


@pytest.mark.parametrize(
    ("status", "answer", "code"),
    [
        (413, None, 413), (500, None, 502), (400, None, 502), (400, [], 502), (400, {"error": "x"}, 400),
        (400, {"error": {"type": "/etc/passwd"}}, 400), (400, {"node_errors": {"3": {"errors": [7]}, "4": 5}}, 400),
    ],
)  # fmt: skip
def test_any_refusal_has_an_answer(status: int, answer: Any, code: int) -> None:
    found, _, message = told(status, answer)
    assert found == code
    assert "/etc" not in message


def test_a_failure_names_its_node() -> None:
    oom = History("error", {}, {}, "KSampler", "3", "torch.OutOfMemoryError")
    assert json.loads(failure(oom)[1])["error"]["type"] == "engine_out_of_memory"
    assert json.loads(failure(History("error", {}, {}))[1])["error"]["type"] == "engine_error"
