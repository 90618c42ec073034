from __future__ import annotations

import json
from http import HTTPStatus

import pytest

from graycat.errors import EngineNotReady
from graycat.web.errors import to_webui_error
from graycat.web.openapi.components import ERROR, ERRORS, WEBUI_ERROR, answer, errors, schemas
from tests.support.errortree import all_errors


def test_statuses_are_listed_once_and_in_order() -> None:
    documented = errors((503, 400, 400), WEBUI_ERROR)
    assert list(documented) == ["400", "503"]
    assert documented["400"] == {"description": ERRORS[400], "content": {"application/json": {"schema": WEBUI_ERROR}}}
    assert errors((400,))["400"]["content"]["application/json"]["schema"] == ERROR


def test_an_answer_may_have_several_content_types() -> None:
    content = answer("image/png", "application/json", "text/event-stream", "text/plain")["200"]["content"]
    assert content["image/png"] == {"schema": {"type": "string", "format": "binary"}}
    assert content["text/plain"] == {"schema": {"type": "string"}}
    assert content["application/json"] == content["text/event-stream"] == {}


@pytest.mark.parametrize("status", ERRORS)
def test_a_status_has_a_description(status: int) -> None:
    assert ERRORS[status].endswith(".")
    assert status == 499 or HTTPStatus(status)


def test_every_error_s_status_has_a_meaning() -> None:
    assert {error.status for error in all_errors()} <= set(ERRORS)


def test_errors_look_as_their_schemas_say() -> None:
    error = EngineNotReady()
    inner = schemas()["Error"]["properties"]["error"]
    assert set(error.body()["error"]) == set(inner["properties"]) == set(inner["required"])
    assert set(schemas()["WebuiError"]["properties"]) <= set(json.loads(to_webui_error(error.encoded())))
