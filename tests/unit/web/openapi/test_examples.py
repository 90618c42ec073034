from __future__ import annotations

import io
import json
import shlex
from typing import Any

from graycat.web.openapi import examples
from graycat.web.openapi.image_fields import FORM
from tests.support.good_requests import fill
from tests.unit.web.openapi.test_document import operations

#: An example is accepted, and not waited for.
ASYNC = {"Prefer": "respond-async"}
#: What is asked of workers that are not there.
WITHOUT_WORKERS = {"/sdapi/v1/options": (503,), "/workers/{worker}/drain": (404,)}


def example_of(operation: dict[str, Any]) -> tuple[str, Any]:
    """Return the content type of an operation's body and its example."""
    ((content_type, media),) = operation["requestBody"]["content"].items()
    return content_type, media["example"]


def test_every_operation_with_a_body_has_an_example_and_all_a_command(web) -> None:
    for (method, path), operation in operations(web).items():
        if "requestBody" in operation:
            example_of(operation)
        command = operation["x-codeSamples"][0]["source"]
        words = shlex.split(command)
        assert words[0] == "curl", path
        assert any(word.startswith("$GRAYCAT/") and "{" not in word for word in words), command
        assert ("Authorization: Bearer $TOKEN" in words) == (operation.get("security") != []), command
        assert (method in ("GET", "POST")) != ("-X" in words and method in words) or method == "POST", command


def test_every_example_with_a_body_is_accepted(web_with) -> None:
    web = web_with(admins="tests")
    values = examples.PATH_VALUES
    made = web.post("/batches", json=examples.BODIES["/batches"])
    values = values | {"batch_id": made.json["id"]}
    for (method, path), operation in operations(web).items():
        if "requestBody" not in operation:
            continue
        content_type, example = example_of(operation)
        address = fill(path, {name: str(value) for name, value in values.items()})
        if content_type == FORM:
            form = example | {"image": (io.BytesIO(b""), "image.png")}
            answer = web.open(address, method=method, data=form, headers=ASYNC)
            assert answer.json["error"]["type"] == "invalid_image"
            continue
        answer = web.open(address, method=method, data=json.dumps(example), headers=ASYNC)
        expected = WITHOUT_WORKERS.get(path, (200, 201, 202))
        assert answer.status_code in expected, f"{method} {path}: {answer.text}"


def test_a_path_s_variables_have_values(web) -> None:
    for (_, path), operation in operations(web).items():
        for parameter in operation["parameters"]:
            assert parameter["in"] != "path" or parameter["example"] == examples.path_value(parameter["name"], path)


def test_a_command_sends_the_example() -> None:
    operation = {"responses": {}, "requestBody": {"content": {"application/json": {"example": {"prompt": "it's"}}}}}
    assert examples.curl(operation, "PUT", "/tasks/{chosen_id}").split(" \\\n  ") == [
        'curl -X PUT "$GRAYCAT/tasks/example-1"',
        '-H "Authorization: Bearer $TOKEN"',
        '-H "Content-Type: application/json"',
        """-d '{"prompt": "it'"'"'s"}'""",
    ]


def test_a_command_for_events_shows_them_as_they_come() -> None:
    operation = {"security": [], "responses": {"200": {"content": {"text/event-stream": {}}}}}
    assert examples.curl(operation, "GET", "/tasks/{task_id}/events") == 'curl -N "$GRAYCAT/tasks/example-1/events"'
