from __future__ import annotations

import re
from pathlib import Path

from graycat.web.openapi.components import ERROR, WEBUI_ERROR, errors
from graycat.web.openapi.error_types import TYPES, add, types_of
from graycat.web.openapi.groups import GROUPS, OPERATORS, SCHEDULES

PAGE = Path(__file__).resolve().parents[4] / "docs" / "errors.md"
#: Errors that can meet any request, and belong to no operation: of its form, its connection, a proxy, a stop.
OF_NO_OPERATION = {
    *("malformed_request", "proxy_header_invalid", "conflicting_credentials", "not_a_proxy", "request_timeout"),
    *("uri_too_long", "unsupported_encoding", "expectation_failed", "too_many_connections", "headers_too_large"),
    *("unsupported_transfer_encoding", "server_busy", "server_unreachable", "proxy_timeout", "proxy_error"),
    *("shutting_down", "broker_data_lost", "artifact_broken", "model_loading", "model_load_failed"),
}


def documented() -> set[tuple[int, str]]:
    """Return every status and type of the table in docs/errors.md."""
    rows = re.findall(r"^\| (\d{3}(?:, \d{3})*) \| ([^|]+) \|", PAGE.read_text(), re.MULTILINE)
    return {
        (int(status), name)
        for codes, names in rows
        for status in codes.split(", ")
        # What stands behind a type says when it comes.
        for name in re.findall(r"(?:^|, )`(\w+)`", names)
    }


def test_the_types_are_those_of_the_guide() -> None:
    assert {(status, name) for status, name, _ in TYPES} == {
        (status, name) for status, name in documented() if name not in OF_NO_OPERATION
    }, "a type of docs/errors.md has a row in TYPES, with the groups that answer it"


def test_every_group_of_a_type_is_one_of_the_document() -> None:
    assert {group for _, _, groups in TYPES for group in groups} < set(GROUPS)


def test_the_types_of_a_status_differ_by_group() -> None:
    assert types_of(404, SCHEDULES) == ["schedule_not_found", "not_found_error"]
    assert types_of(404, OPERATORS) == ["token_not_found", "worker_not_found", "queue_not_found", "not_found_error"]
    assert types_of(418, SCHEDULES) == []


def test_a_response_begins_with_its_types_and_has_an_example() -> None:
    responses = errors((404,), ERROR)
    add(SCHEDULES, responses)
    assert responses["404"]["description"].startswith("`schedule_not_found`, `not_found_error`: the route")
    error = responses["404"]["content"]["application/json"]["example"]["error"]
    assert (error["code"], error["type"]) == (404, "schedule_not_found")


def test_an_error_in_the_webui_s_form_gets_no_example_of_ours() -> None:
    responses = errors((404,), WEBUI_ERROR)
    add(SCHEDULES, responses)
    assert "example" not in responses["404"]["content"]["application/json"]
