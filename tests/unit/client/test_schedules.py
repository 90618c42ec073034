from __future__ import annotations

import pytest

from graycat.client import Client, InvalidArgument, UnexpectedReply
from graycat.client.errors import InvalidSchedule, ScheduleExists, ScheduleNotFound
from tests.support.scripted import respond_with
from tests.support.servers import http_server

SPEC = {"name": "portraits", "items": [{"prompt": "a tavern"}]}
BODY = {"cron": "0 1 * * *", "spec": SPEC}


def test_a_schedule_is_added_found_stopped_and_removed(client: Client) -> None:
    schedules = client.schedules
    assert schedules.put("nightly", BODY)["next"]
    assert schedules.put("nightly", BODY | {"missed": "all"}, replace=True)["missed"] == "all"
    assert [row["name"] for row in schedules.all()] == ["nightly"]
    assert schedules.get("nightly")["fires"] == []
    assert len(schedules.next("nightly", 3)) == 3
    assert schedules.pause("nightly")["paused"]
    assert not schedules.resume("nightly")["paused"]
    assert schedules.run_now("nightly", "k") == schedules.run_now("nightly", "k") != schedules.run_now("nightly")
    schedules.remove("nightly")
    with pytest.raises(ScheduleNotFound):
        schedules.get("nightly")


def test_the_server_s_refusals_are_raised(client: Client) -> None:
    with pytest.raises(InvalidSchedule, match="bad hour"):
        client.schedules.put("nightly", BODY | {"cron": "0 25 * * *"})
    client.schedules.put("nightly", BODY)
    with pytest.raises(ScheduleExists):
        client.schedules.put("nightly", BODY | {"overlap": "queue"})


@pytest.mark.parametrize("name", ["", "a/b", "..", "a b", "ä"])
def test_an_invalid_name_is_not_sent(client: Client, live, name: str) -> None:
    with pytest.raises(InvalidArgument):
        client.schedules.get(name)
    with pytest.raises(InvalidArgument, match="JSON"):
        client.schedules.put("nightly", BODY | {"jitter_s": float("nan")})


def test_an_answer_of_another_server_is_unexpected() -> None:
    answers = {"GET /schedules": respond_with(200, {"schedules": 5})}
    with http_server(answers) as seen, Client(seen.url) as client, pytest.raises(UnexpectedReply):
        client.schedules.all()
