"""Schedules and galleries, asked rightly and wrongly: every answer is one that the document tells, and no defect."""

from __future__ import annotations

from typing import Any

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from tests.support.helpers import BEARER

LIMITS = settings(
    max_examples=8, database=None, deadline=None, derandomize=True,
    phases=[Phase.generate], suppress_health_check=list(HealthCheck),
)  # fmt: skip
NAMES = ("status_code_conformance", "content_type_conformance", "response_schema_conformance", "not_a_server_error")
PATHS = [
    *(("POST", "/schedules"), ("GET", "/schedules"), ("PUT", "/schedules/{name}"), ("GET", "/schedules/{name}")),
    *(("DELETE", "/schedules/{name}"), ("GET", "/schedules/{name}/next"), ("POST", "/schedules/{name}/run")),
    *(("GET", "/batches/{batch_id}/gallery"), ("GET", "/batches/{batch_id}/gallery/state")),
    *(("GET", "/batches/{batch_id}/gallery/images/{number}"), ("POST", "/batches/{batch_id}/gallery/link")),
]


@pytest.fixture(scope="module")
def document(shared_app: Flask) -> Any:
    load_all_checks()
    config = schemathesis.Config.from_dict({"generation": {"with-security-parameters": False}})
    return schemathesis.openapi.from_wsgi("/openapi.json", shared_app, config=config)


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize(("method", "path"), PATHS)
def test_an_answer_is_documented(document: Any, broker, method: str, path: str, mode: Any) -> None:
    @settings(LIMITS)
    @given(case=document[path][method].as_strategy(generation_mode=mode))
    def run(case: Any) -> None:
        answer = case.call(headers=BEARER)
        case.validate_response(answer, checks=[check for check in CHECKS.get_all() if check.__name__ in NAMES])

    run()
