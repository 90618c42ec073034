from __future__ import annotations

import json
from base64 import b64decode
from typing import Any

import pytest

from graycat.errors import EngineError
from graycat.web.compat.openai_image_stream import image_format
from graycat.web.services import services_of
from tests.support.helpers import outcome_of
from tests.support.webuis import picture

RED, BLUE, PREVIEW = picture("red"), picture("blue"), picture("green", "JPEG")
BODY = {"prompt": "a fox", "size": "64x64", "stream": True}
PATH = "/v1/images/generations"


def events_in(response: Any) -> list[tuple[str, dict[str, Any]]]:
    """Return names and data of a stream's events."""
    found = []
    for block in response.get_data(as_text=True).split("\n\n"):
        name, _, data = block.partition("\ndata: ")
        if data:
            found.append((name.removeprefix("event: "), json.loads(data)))
    return found


def test_a_stream_without_previews_has_the_images(web, render) -> None:
    response = outcome_of(lambda: web.post(PATH, json=BODY | {"n": 2}))
    render(RED, BLUE)
    assert response().content_type.startswith("text/event-stream")
    events = events_in(response())
    assert [(name, b64decode(data["b64_json"])) for name, data in events] == [
        ("image_generation.completed", RED),
        ("image_generation.completed", BLUE),
    ]
    data = events[0][1]
    assert data["type"] == "image_generation.completed"
    assert (data["size"], data["output_format"], data["quality"], data["background"]) == (
        "64x64",
        "png",
        "auto",
        "opaque",
    )
    assert data["usage"]["total_tokens"] == 0


def test_previews_come_before_the_image_and_each_once(web, take, records, artifacts_of) -> None:
    response = outcome_of(lambda: web.post(PATH, json=BODY | {"partial_images": 2}))
    attempt = take("sd")
    for progress in (0.1, 0.4, 0.9):
        records.save_preview(attempt.task_id, PREVIEW + b"%d" % int(progress * 10))
        records.report_progress(attempt, json.dumps({"progress": progress, "preview": True}).encode())
    records.report_progress(attempt, b"no JSON")
    artifacts_of(attempt, RED)
    records.succeed(attempt, 200, b'{"images": [{"artifact": 0}]}')
    *partial, (last, _) = events_in(response())
    assert last == "image_generation.completed"
    # Who looks late finds the newest one alone.
    assert 1 <= len(partial) <= 2
    assert {name for name, _ in partial} == {"image_generation.partial_image"}
    assert [data["partial_image_index"] for _, data in partial] == list(range(len(partial)))
    assert {data["output_format"] for _, data in partial} == {"jpeg"}
    assert len({data["b64_json"] for _, data in partial}) == len(partial)


def test_an_early_error_has_its_status_and_is_no_stream(web, take, records) -> None:
    response = outcome_of(lambda: web.post(PATH, json=BODY))
    records.fail(take("sd"), EngineError(500, b'{"error":"OutOfMemoryError"}'))
    assert (response().status_code, response().data) == (500, b'{"error":"OutOfMemoryError"}')


def test_a_refused_stream_is_no_stream(web, client) -> None:
    refused = web.post(PATH, json=BODY | {"prompt": "<style:x>"})
    assert (refused.status_code, refused.json["error"]["type"]) == (400, "prompt_parameter")
    assert client.keys("*") == []


@pytest.mark.parametrize(
    ("image", "name"), [(RED, "png"), (PREVIEW, "jpeg"), (b"", "octet-stream")], ids=["png", "jpeg", "none"]
)
def test_a_format_is_named_as_openai_does(image: bytes, name: str) -> None:
    assert image_format(image) == name


@pytest.fixture
def artifacts_of(shared_app):
    """Return how to store an image of an attempt."""

    def store(attempt: Any, image: bytes) -> None:
        services_of(shared_app).artifacts.put(attempt.task_id, 0, image, "image/png", "tests")

    return store
