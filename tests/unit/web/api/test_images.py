from __future__ import annotations

import pytest

from graycat.broker.keys import artifacts_key
from graycat.web.services import services_of
from tests.support.helpers import accepted, started

PNG, JPEG = b"\x89PNG\r\n\x1a\n and so on", b"\xff\xd8\xff and so on"


@pytest.fixture
def artifacts(shared_app):
    return services_of(shared_app).artifacts


def test_an_image_is_the_engine_s_bytes(web, records, artifacts) -> None:
    task_id = accepted(records)
    artifacts.put(task_id, 0, PNG, "image/png", "tests")
    response = web.get(f"/tasks/{task_id}/images/0")
    assert (response.status_code, response.data, response.content_type) == (200, PNG, "image/png")
    assert response.headers["Cache-Control"] == "private, max-age=3600, immutable"


def test_an_image_that_the_caller_has_is_not_sent_again(web, records, artifacts) -> None:
    task_id = accepted(records)
    artifacts.put(task_id, 0, PNG, "image/png", "tests")
    tag = web.get(f"/tasks/{task_id}/images/0").headers["ETag"]
    response = web.get(f"/tasks/{task_id}/images/0", headers={"If-None-Match": tag})
    assert (response.status_code, response.data) == (304, b"")


@pytest.mark.parametrize("number", ["1", "-1", "x"])
def test_an_image_that_is_not_there_is_not_found(web, records, artifacts, number: str) -> None:
    task_id = accepted(records)
    artifacts.put(task_id, 0, PNG, "image/png", "tests")
    assert web.get(f"/tasks/{task_id}/images/{number}").status_code == 404


def test_a_task_without_the_image_or_a_preview_is_told_from_one_that_is_not_there(web, records) -> None:
    path = f"/tasks/{accepted(records)}"
    for part, words in (("images/3", "this task has no image 3"), ("preview", "this task has no preview")):
        error = web.get(f"{path}/{part}").json["error"]
        assert (error["code"], error["type"]) == (404, "task_not_found")
        assert error["message"].startswith(words)
        assert web.get(f"/tasks/unknown/{part}").json["error"]["message"].startswith("you have no task with this id")


def test_another_caller_s_image_is_not_found(web, records, artifacts) -> None:
    task_id = accepted(records, owner="game")
    artifacts.put(task_id, 0, PNG, "image/png", "game")
    assert web.get(f"/tasks/{task_id}/images/0").status_code == 404


def test_a_preview_is_the_newest_and_is_not_cached(web, records) -> None:
    attempt = started(records)
    assert web.get(f"/tasks/{attempt.task_id}/preview").status_code == 404
    records.save_preview(attempt.task_id, PNG)
    response = web.get(f"/tasks/{attempt.task_id}/preview")
    assert (response.data, response.content_type) == (PNG, "image/png")
    assert response.headers["Cache-Control"] == "no-store"


def test_another_image_under_the_same_number_is_sent(web, records, artifacts) -> None:
    address = f"/tasks/{accepted(records)}/images/0"
    task_id = address.split("/")[2]
    known = artifacts.put(task_id, 0, PNG, "image/png", "tests")
    tag = web.get(address).headers["ETag"]
    assert tag == f'"{known.sha256}"'
    for given in (f'"another", {tag}', "*"):
        assert web.get(address, headers={"If-None-Match": given}).status_code == 304
    artifacts.put(task_id, 0, JPEG, "image/jpeg", "tests")
    response = web.get(address, headers={"If-None-Match": tag})
    assert (response.data, response.content_type) == (JPEG, "image/jpeg")


def test_a_guessed_tag_does_not_reveal_another_caller_s_image(web, records, artifacts) -> None:
    task_id = accepted(records, owner="game")
    known = artifacts.put(task_id, 0, PNG, "image/png", "game")
    for tag in (f'"{known.sha256}"', "*"):
        assert web.get(f"/tasks/{task_id}/images/0", headers={"If-None-Match": tag}).status_code == 404


@pytest.mark.parametrize("owner", ["somebody else", None])
def test_another_caller_s_preview_is_not_found(web, records, owner: str | None) -> None:
    task_id = started(records, owner=owner).task_id if owner else "0" * 32
    records.save_preview(task_id, PNG)
    assert web.get(f"/tasks/{task_id}/preview").status_code == 404


def test_a_preview_has_the_kind_of_its_bytes(web, records) -> None:
    attempt = started(records)
    records.save_preview(attempt.task_id, JPEG)
    assert web.get(f"/tasks/{attempt.task_id}/preview").content_type == "image/jpeg"


@pytest.mark.parametrize("page", [b"<html><script>alert(1)</script>", b"<svg/>"])
def test_a_page_that_a_worker_calls_an_image_is_a_download(web, records, artifacts, page: bytes) -> None:
    task_id = accepted(records)
    artifacts.put(task_id, 0, page, "text/html", "tests")
    records.save_preview(task_id, page)
    for name in ("images/0", "preview"):
        response = web.get(f"/tasks/{task_id}/{name}")
        assert (response.status_code, response.content_type) == (200, "application/octet-stream")
        assert response.headers["Content-Disposition"] == "attachment"


@pytest.mark.parametrize("description", [b"{half", b"7", b"{}", b'{"task_id": 7}', b"[]"])
def test_a_description_that_is_none_is_a_broken_image(web, records, client, artifacts, description: bytes) -> None:
    task_id = accepted(records)
    artifacts.put(task_id, 0, PNG, "image/png", "tests")
    client.hset(artifacts_key(task_id), "0", description)
    assert web.get(f"/tasks/{task_id}/images/0").json["error"]["type"] == "artifact_broken"
