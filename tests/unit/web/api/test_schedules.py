"""Schedules over HTTP."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from graycat.auth.authenticator import Authenticator
from graycat.auth.minted import Grant
from tests.support.helpers import Valkey

SPEC = {"name": "portraits", "defaults": {"width": 64, "height": 64}, "items": [{"prompt": "a tavern"}]}
NIGHTLY: dict[str, Any] = {"name": "nightly", "cron": "0 1 * * *", "timezone": "Europe/Berlin", "spec": SPEC}


@pytest.fixture
def mint(broker: Valkey) -> Callable[..., dict[str, str]]:
    """Return how to mint an API token with some scopes; the headers that carry it."""

    def minted(name: str, *scopes: str) -> dict[str, str]:
        secret, _ = Authenticator.from_settings(broker.settings, broker.client).mint(
            Grant.read({"name": name, "scopes": list(scopes)})
        )
        return {"Authorization": f"Bearer {secret}"}

    return minted


def test_a_schedule_lives_from_its_addition_to_its_removal(web) -> None:
    added = web.post("/schedules", json=NIGHTLY | {"window": "01:00-06:00", "max_gpus": 2, "jitter_s": 60})
    assert (added.status_code, added.headers["Location"]) == (201, "/schedules/nightly")
    view = added.json
    assert (view["owner"], view["missed"], view["overlap"], view["source"]) == ("tests", "once", "skip", "api")
    assert view["next"][10:16] == "T01:00"
    assert web.get("/schedules/nightly").json["spec"] == SPEC
    assert [row["name"] for row in web.get("/schedules").json["schedules"]] == ["nightly"]
    assert web.post("/schedules/nightly/pause").json["paused"]
    assert not web.post("/schedules/nightly/resume").json["paused"]
    assert web.delete("/schedules/nightly").json == {"removed": "nightly"}
    gone = web.get("/schedules/nightly")
    assert (gone.status_code, gone.json["error"]["type"]) == (404, "schedule_not_found")


def test_the_same_again_is_the_same_and_another_is_refused_unless_it_is_put(web) -> None:
    assert web.post("/schedules", json=NIGHTLY).status_code == 201
    assert web.post("/schedules", json=NIGHTLY).status_code == 200
    other = {name: value for name, value in NIGHTLY.items() if name != "name"} | {"overlap": "queue"}
    refused = web.post("/schedules", json=other | {"name": "nightly"})
    assert (refused.status_code, refused.json["error"]["type"]) == (409, "schedule_exists")
    put = web.put("/schedules/nightly", json=other)
    assert (put.status_code, put.json["overlap"]) == (200, "queue")
    assert web.put("/schedules/new", json=other).status_code == 201
    assert web.put("/schedules/new", json=other | {"name": "new"}).status_code == 200
    others: list[Any] = ["old", 7, []]
    for name in others:
        refused = web.put("/schedules/new", json=other | {"name": name})
        assert (refused.status_code, "'name' must be 'new'" in refused.text) == (400, True)


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (NIGHTLY | {"cron": "0 25 * * *"}, "invalid_schedule", "bad hour"),
        (NIGHTLY | {"timezone": "Berlin"}, "invalid_schedule", "no time zone 'Berlin'"),
        (NIGHTLY | {"spec": SPEC | {"colour": "red"}}, "invalid_batch", "spec.colour"),
        (NIGHTLY | {"spec": {"items": []}}, "invalid_batch", "spec.items"),
        ([1], "invalid_request_error", "must be a JSON object"),
        ({}, "invalid_schedule", "'name' is required"),
        (NIGHTLY | {"name": "a/b"}, "invalid_schedule", "'name'"),
    ],
)
def test_an_invalid_batch_is_refused_before_anything_is_stored(web, body, kind, words) -> None:
    refused = web.post("/schedules", json=body)
    assert (refused.status_code, refused.json["error"]["type"]) == (400, kind)
    assert words in refused.json["error"]["message"]
    assert web.get("/schedules").json == {"schedules": []}


def test_next_times_are_in_the_schedule_s_time_zone(web) -> None:
    web.post("/schedules", json=NIGHTLY | {"timezone": "Asia/Kolkata"})
    found = web.get("/schedules/nightly/next").json
    assert (found["timezone"], len(found["times"])) == ("Asia/Kolkata", 5)
    assert all(row["time"].endswith("T01:00:00+05:30") for row in found["times"])
    assert len(web.get("/schedules/nightly/next?count=100").json["times"]) == 100
    for count in ("0", "101", "-1", "x", "1e3", ""):
        assert web.get(f"/schedules/nightly/next?count={count}").status_code == 400


def test_a_run_by_hand_is_a_batch_and_with_a_key_it_is_one_batch(web) -> None:
    web.post("/schedules", json=NIGHTLY)
    first = web.post("/schedules/nightly/run", headers={"Idempotency-Key": "monday"})
    again = web.post("/schedules/nightly/run", headers={"Idempotency-Key": "monday"})
    other = web.post("/schedules/nightly/run")
    assert first.status_code == 200
    assert first.json == again.json != other.json
    assert first.headers["Location"] == f"/batches/{first.json['batch']}"
    assert web.get("/schedules/nightly").json["last_batch"] == other.json["batch"]
    assert web.post("/schedules/nightly/run", headers={"Idempotency-Key": "a b"}).status_code == 400
    assert web.post("/schedules/other/run").status_code == 404


def test_a_missing_scope_is_named(web, mint) -> None:
    reader, batcher = mint("reader", "sd"), mint("batcher", "batch")
    assert web.get("/schedules", headers=reader).status_code == 403
    assert web.get("/schedules", headers=batcher).status_code == 200
    refused = web.post("/schedules", json=NIGHTLY, headers=batcher)
    assert (refused.status_code, refused.json["error"]["type"]) == (403, "permission_error")
    assert "'sd'" in refused.json["error"]["message"]
    asks = NIGHTLY | {"spec": {"name": "asked", "prompts": {"ask": "portraits for a tavern", "count": 2}}}
    refused = web.post("/schedules", json=asks, headers=mint("painter", "batch", "sd"))
    assert (refused.status_code, "'llm'" in refused.json["error"]["message"]) == (403, True)
    assert web.post("/schedules", json=asks).status_code == 201


def test_the_secret_of_a_batch_s_webhook_is_not_shown(web) -> None:
    hook = {"url": "https://example.com/hook", "secret": "whsec_" + "QUFB" * 8}
    added = web.post("/schedules", json=NIGHTLY | {"spec": SPEC | {"webhook": hook}})
    assert added.status_code == 201, added.text
    assert added.json["spec"]["webhook"] == {"url": "https://example.com/hook"}


def test_only_an_admin_sees_and_stops_what_others_have(web, mint) -> None:
    web.post("/schedules", json=NIGHTLY)
    admin, stranger = mint("root", "batch", "sd", "admin"), mint("stranger", "batch", "sd")
    assert web.get("/schedules/nightly", headers=stranger).status_code == 404
    assert web.get("/schedules/nightly?owner=tests", headers=stranger).status_code == 403
    assert web.get("/schedules?owner=*", headers=stranger).status_code == 403
    assert [row["owner"] for row in web.get("/schedules?owner=*", headers=admin).json["schedules"]] == ["tests"]
    assert web.post("/schedules/nightly/pause?owner=tests", headers=admin).json["paused"]
    assert web.get("/schedules/nightly").json["paused"]
    assert web.delete("/schedules/nightly?owner=tests", headers=admin).status_code == 200
    assert web.post("/schedules?owner=a:b", json=NIGHTLY, headers=admin).status_code == 400


def test_without_a_broker_nothing_is_promised(web_without_broker) -> None:
    for method, path in (("GET", "/schedules"), ("POST", "/schedules"), ("POST", "/schedules/nightly/run")):
        answer = web_without_broker.open(path, method=method, json=NIGHTLY if path == "/schedules" else None)
        assert (answer.status_code, answer.json["error"]["type"]) == (503, "broker_unavailable")


def test_half_a_character_is_refused_with_its_path(web) -> None:
    body = json.dumps(NIGHTLY | {"spec": {"name": "x", "items": ["half \ud83d"]}})
    refused = web.post("/schedules", data=body)
    assert (refused.status_code, refused.json["error"]["type"]) == (400, "invalid_batch")
    assert [problem["path"] for problem in refused.json["error"]["problems"]] == ["spec.items[0]"]
