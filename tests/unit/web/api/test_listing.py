"""The list of a caller's tasks, page by page."""

from __future__ import annotations

import pytest

from graycat.broker import keys
from graycat.web.api import tasks
from tests.support.helpers import accepted


def pages(web, query: str = "") -> list[list[str]]:
    """Return the ids on every page of the list."""
    found, cursor = [], ""
    while True:
        page = web.get(f"/tasks?{query}{cursor}").json
        found.append([task["id"] for task in page["tasks"]])
        if page["next_cursor"] is None:
            return found
        cursor = f"&cursor={page['next_cursor']}"


def test_the_list_has_the_caller_s_tasks_newest_first(web, submit, records) -> None:
    accepted(records, owner="game", shown={})
    ids = [submit() for _ in range(3)]
    (page,) = pages(web)
    assert sorted(page) == sorted(ids)
    submitted = [task["submitted_ms"] for task in web.get("/tasks").json["tasks"]]
    assert submitted == sorted(submitted, reverse=True)


def test_a_page_holds_as_many_as_were_asked_for(web, submit) -> None:
    ids = {submit() for _ in range(5)}
    found = pages(web, "limit=2")
    assert [len(page) for page in found] == [2, 2, 1]
    assert {task_id for page in found for task_id in page} == ids


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_tasks_of_one_millisecond_are_on_one_page_each(web, submit, client, limit: int) -> None:
    ids = {submit() for _ in range(6)}
    client.zadd(keys.listed_key("tests"), dict.fromkeys(ids, 1_700_000_000_000))
    found = [task_id for page in pages(web, f"limit={limit}") for task_id in page]
    assert len(found) == len(ids)
    assert set(found) == ids


def test_a_task_that_comes_between_two_pages_moves_none(web, submit) -> None:
    ids = {submit() for _ in range(4)}
    first = web.get("/tasks?limit=2").json
    late = submit()
    second = web.get(f"/tasks?limit=2&cursor={first['next_cursor']}").json
    found = [task["id"] for page in (first, second) for task in page["tasks"]]
    assert (set(found), late in found) == (ids, False)


def test_the_list_can_be_narrowed_by_state_and_kind(web, submit, take, records) -> None:
    done, waiting = submit(), submit()
    image = submit(kind="sd.txt2img", input={"prompt": "a fox"})
    records.succeed(take(), 200, b"{}")
    assert pages(web, "state=succeeded") == [[done]]
    assert [sorted(page) for page in pages(web, "state=queued")] == [sorted([waiting, image])]
    assert pages(web, "kind=sd.txt2img") == [[image]]
    assert [len(page) for page in pages(web, "state=queued&state=succeeded&kind=llm.completion")] == [2]
    assert pages(web, "state=failed") == [[]]


def test_a_page_without_a_match_still_leads_to_the_next(web, submit, records, monkeypatch) -> None:
    monkeypatch.setattr(tasks, "MAX_SCANNED", 2)
    monkeypatch.setattr(tasks, "MAX_PAGE_SIZE", 2)
    ids = [submit() for _ in range(7)]
    oldest = min(ids, key=lambda task_id: (int(records.get(task_id)["submitted_ms"]), task_id))
    records.cancel(oldest)
    found = pages(web, "state=cancelled&limit=1")
    assert [task_id for page in found for task_id in page] == [oldest]


def test_forgotten_tasks_are_left_out(web, submit, client) -> None:
    gone, there = submit(), submit()
    client.delete(keys.record_key(gone))
    assert pages(web) == [[there]]


def test_the_list_shows_no_answers(web, submit, take, records) -> None:
    submit()
    records.succeed(take(), 200, b'{"content":"Hello"}')
    (task,) = web.get("/tasks").json["tasks"]
    assert task["state"] == "succeeded"
    assert "result" not in task


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "cursor=x", "cursor=1", "cursor=1-" + "a" * 100])
def test_a_page_that_cannot_be_is_refused(web, query: str) -> None:
    response = web.get(f"/tasks?{query}")
    assert (response.status_code, response.json["error"]["type"]) == (400, "invalid_request_error")
