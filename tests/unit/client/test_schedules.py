from __future__ import annotations

import pytest

from graycat.client import Client, InvalidArgument, UnexpectedReply
from graycat.client.errors import RequestError
from tests.support.scripted import says
from tests.support.servers import http_server

SPEC = {"name": "portraits", "items": [{"prompt": "a tavern"}]}
BODY = {"cron": "0 1 * * *", "spec": SPEC}


def test_a_schedule_is_added_found_stopped_and_removed(there: Client) -> None:
    schedules = there.schedules
    assert schedules.put("nightly", BODY)["next"]
    assert schedules.put("nightly", BODY | {"missed": "all"}, replace=True)["missed"] == "all"
    assert [row["name"] for row in schedules.all()] == ["nightly"]
    assert schedules.get("nightly")["fires"] == []
    assert len(schedules.next("nightly", 3)) == 3
    assert schedules.pause("nightly")["paused"]
    assert not schedules.resume("nightly")["paused"]
    assert schedules.run_now("nightly", "k") == schedules.run_now("nightly", "k") != schedules.run_now("nightly")
    schedules.remove("nightly")
    with pytest.raises(RequestError) as caught:
        schedules.get("nightly")
    assert (caught.value.status, caught.value.type) == (404, "schedule_not_found")


def test_what_the_server_refuses_is_raised_by_its_name(there: Client) -> None:
    with pytest.raises(RequestError, match="bad hour") as caught:
        there.schedules.put("nightly", BODY | {"cron": "0 25 * * *"})
    assert caught.value.type == "invalid_schedule"
    there.schedules.put("nightly", BODY)
    with pytest.raises(RequestError) as caught:
        there.schedules.put("nightly", BODY | {"overlap": "queue"})
    assert (caught.value.status, caught.value.type) == (409, "schedule_exists")


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "ä"])
def test_what_is_no_name_is_not_sent(there: Client, live, name: str) -> None:
    with pytest.raises(InvalidArgument):
        there.schedules.get(name)
    with pytest.raises(InvalidArgument, match="JSON"):
        there.schedules.put("nightly", BODY | {"jitter_s": float("nan")})


def test_who_answers_otherwise_is_no_graycat() -> None:
    answers = {"GET /schedules": says(200, {"schedules": 5})}
    with http_server(answers) as seen, Client(seen.url) as client, pytest.raises(UnexpectedReply):
        client.schedules.all()
