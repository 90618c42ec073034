from __future__ import annotations

import pytest

from tests.unit.helpers import accepted, started

PNG = b"\x89PNG\r\n\x1a\n and so on"


@pytest.fixture
def artifacts(shared_app):
    return shared_app.extensions["graycat"].artifacts


def test_an_image_comes_as_the_engine_made_it(web, records, artifacts) -> None:
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


def test_somebody_else_s_image_is_not_found(web, records, artifacts) -> None:
    task_id = accepted(records, owner="game")
    artifacts.put(task_id, 0, PNG, "image/png", "game")
    assert web.get(f"/tasks/{task_id}/images/0").status_code == 404


def test_a_preview_is_the_newest_and_is_not_kept_by_anybody(web, records) -> None:
    attempt = started(records)
    assert web.get(f"/tasks/{attempt.task_id}/preview").status_code == 404
    records.keep_preview(attempt.task_id, PNG)
    response = web.get(f"/tasks/{attempt.task_id}/preview")
    assert (response.data, response.content_type) == (PNG, "image/png")
    assert response.headers["Cache-Control"] == "no-store"
