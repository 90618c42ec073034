from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from graycat.auth.authenticator import Authenticator
from graycat.auth.minted import Grant
from graycat.batches.output import Outputs
from graycat.web import create_app
from graycat.web.services import services_of
from tests.support.batching import TWO, Batching
from tests.support.helpers import BEARER, Valkey
from tests.unit.conftest import KEPT


@pytest.fixture
def batching(broker: Valkey, tmp_path: Path) -> Batching:
    return Batching(broker, tmp_path / "out")


@pytest.fixture
def made(batching: Batching) -> str:
    """Return the id of a batch that has ended."""
    batch_id = batching.submit()
    batching.run_to_end(batch_id)
    return batch_id


@pytest.fixture
def reader(batching: Batching, monkeypatch: pytest.MonkeyPatch, shared_app: Flask) -> None:
    """Make the web process read from where the control worker writes."""
    monkeypatch.setattr(services_of(shared_app), "outputs", Outputs(batching.settings))


def test_a_batch_is_accepted_with_its_address(web) -> None:
    accepted = web.post("/batches", json=TWO)
    assert accepted.status_code == 201
    found = web.get(accepted.headers["Location"]).json
    assert (found["state"], found["total"], found["owner"]) == ("queued", 2, "tests")
    assert web.get("/batches").json == {"batches": [found], "next_offset": None}
    assert web.get(f"{found['links']['self']}/spec").json == TWO
    assert web.get(found["links"]["items"]).json == {"items": [], "next_offset": None}


def test_the_same_key_is_the_same_batch(web) -> None:
    key = {"Idempotency-Key": "night-2026-11-25"}
    first, again = (web.post("/batches", json=TWO, headers=key) for _ in range(2))
    assert (first.status_code, again.status_code, first.json["id"]) == (201, 200, again.json["id"])
    other = web.post("/batches", json=TWO | {"count": 2}, headers=key)
    assert (other.status_code, other.json["error"]["type"]) == (409, "batch_conflict")
    bad = web.post("/batches", json=TWO, headers={"Idempotency-Key": "a b"})
    assert bad.status_code == 400


@pytest.mark.parametrize("word", ["", "please", "2", "tru"])
def test_a_dry_run_that_is_neither_true_nor_false_makes_nothing_either(web, broker: Valkey, word: str) -> None:
    response = web.post(f"/batches?dry_run={word}", json=TWO)
    assert (response.status_code, response.json["error"]["type"]) == (400, "invalid_request_error")
    assert web.get("/batches").json["batches"] == []


def test_a_dry_run_makes_nothing(web, broker: Valkey) -> None:
    forecast = web.post("/batches?dry_run=true", json=TWO | {"count": 30}).json
    assert (forecast["total"], forecast["gpu_s"], len(forecast["items"])) == (60, None, 20)
    assert forecast["items"][0] == {"number": 1, "file": "01-random-a-knight", "prompt": "a knight", "seed": None}
    assert list(broker.client.scan_iter("graycat:batch*")) == []


def test_a_dry_run_shows_how_long_the_batch_would_take(
    web, batching: Batching, made: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Another request has looked a moment ago, when nothing was known.
    monkeypatch.setattr("graycat.batches.forecast.MAX_AGE_S", 0.0)
    batching.client.hset("graycat:batches:speeds", "sd", 1000)
    defaults = {"width": 1000, "height": 1000, "steps": 10}
    forecast = web.post(
        "/batches?dry_run=1", json={"name": "x", "prompts": {"ask": "y", "count": 6}, "defaults": defaults}
    ).json
    assert (forecast["gpu_s"], forecast["engines"], forecast["eta_s"], forecast["prompts"]) == (60.0, 1, 60.0, 6)


def test_all_problems_are_reported_at_once(web) -> None:
    refused = web.post("/batches", json={"items": [{"prompt": "a", "steps": 9999}], "window": "x"})
    assert (refused.status_code, refused.json["error"]["type"]) == (400, "invalid_batch")
    paths = {problem["path"] for problem in refused.json["error"]["problems"]}
    assert paths == {"name", "items[0].steps", "window"}


@pytest.mark.parametrize("body", ["[]", "x", "", '{"name": NaN}', '{"name": ' + "[" * 5000 + "]" * 5000 + "}"])
def test_what_is_no_spec_is_refused(web, body: str) -> None:
    assert web.post("/batches", data=body).status_code == 400


@pytest.mark.parametrize("body", ['{"name": "a", "name": "b"}', '{"items": [{"prompt": "a", "seed": 1, "seed": 2}]}'])
@pytest.mark.parametrize("path", ["/batches", "/schedules"])
def test_a_field_that_is_there_twice_is_refused(web, path: str, body: str) -> None:
    refused = web.post(path, data=body)
    assert refused.status_code == 400
    assert "twice" in refused.json["error"]["message"]


def test_a_checkpoint_that_no_engine_has_is_refused(web, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graycat.web.services.Services.catalogs", lambda _: {"sd@a": {"sd-models": [{"title": "one"}]}})
    override = {"override_settings": {"sd_model_checkpoint": "two"}}
    refused = web.post("/batches", json=TWO | {"defaults": override})
    assert (refused.status_code, refused.json["error"]["type"]) == (400, "invalid_batch")


def test_a_style_that_sets_parameters_and_text_that_does_are_refused(web, monkeypatch: pytest.MonkeyPatch) -> None:
    styles = [{"name": "large", "prompt": "", "extra": "Size: 4096x4096"}]
    monkeypatch.setattr("graycat.web.services.Services.catalogs", lambda _: {"sd@a": {"prompt-styles": styles}})
    spec = {"name": "x", "matrix": {"prompt": ["a", "b"], "styles": [["plain"], ["large"]]}}
    refused = web.post("/batches", json=spec)
    assert [problem["path"] for problem in refused.json["error"]["problems"]] == ["styles"]
    spec = {"name": "x", "matrix": {"prompts": ["a", "<style:large>"], "negative_prompt": ["<style:large>"]}}
    refused = web.post("/batches", json=spec)
    paths = {problem["path"] for problem in refused.json["error"]["problems"]}
    assert paths == {"matrix.prompt[1]", "matrix.negative_prompt[0]"}
    assert web.get("/batches").json["batches"] == []


def test_a_model_that_no_engine_has_is_refused(web, batching: Batching) -> None:
    batching.report_engines(1, name="llm@here", queues=("llm", "llm.batch"), models=("gemma",))

    def submit(model: str) -> Any:
        return web.post("/batches", json={"name": "x", "prompts": {"ask": "y", "count": 1, "model": model}})

    assert submit("gemma").status_code == 201
    assert submit("other").json["error"]["problems"][0]["path"] == "prompts.model"


def test_the_verbs(web) -> None:
    path = web.post("/batches", json=TWO).headers["Location"]
    assert web.post(f"{path}/pause").json["state"] == "paused"
    assert web.post(f"{path}/resume").json["state"] == "queued"
    wrong = web.post(f"{path}/resume")
    assert (wrong.status_code, wrong.json["error"]["type"]) == (409, "wrong_batch_state")
    assert web.post(f"{path}/cancel").json["state"] == web.delete(path).json["state"] == "cancelled"
    assert web.post(f"{path}/retry-failed").json["state"] == "queued"


def test_what_was_made_is_fetched(web, reader: None, batching: Batching, made: str) -> None:
    path = f"/batches/{made}"
    rows = web.get(f"{path}/items?state=done").json["items"]
    image = web.get(rows[1]["links"]["image"])
    assert (image.status_code, image.content_type) == (200, "image/png")
    assert image.data == batching.files(made)[1].read_bytes()
    assert image.headers["ETag"] == f'"{rows[1]["sha256"]}"'
    unchanged = web.get(rows[1]["links"]["image"], headers={"If-None-Match": image.headers["ETag"]})
    assert unchanged.status_code == 304
    lines = web.get(f"{path}/manifest")
    assert [json.loads(line) for line in lines.text.splitlines()] == batching.manifest(made)
    for missing in (f"{path}/items/0/image", f"{path}/items/3/image"):
        assert web.get(missing).json["error"]["type"] == "batch_item_not_found"
    batching.files(made)[0].unlink()
    assert web.get(f"{path}/items/1/image").status_code == 404


def test_pages(web, made: str) -> None:
    for path in ("/batches", f"/batches/{made}/items"):
        page = web.get(f"{path}?limit=1").json
        assert page["next_offset"] == 1
        for wrong in ("limit=0", "limit=x", "offset=-1", "limit=99999", "offset=99999999999"):
            assert web.get(f"{path}?{wrong}").status_code == 400
    assert web.get(f"/batches/{made}/items?state=odd").status_code == 400


def test_a_batch_is_its_owner_s_alone(web, batching: Batching) -> None:
    other = batching.batches.submit(TWO, "somebody")[0]
    calls: list[tuple[str, str]] = [
        ("GET", ""),
        ("GET", "/spec"),
        ("GET", "/items"),
        ("GET", "/manifest"),
        ("DELETE", ""),
    ]
    calls += [("POST", f"/{verb}") for verb in ("pause", "resume", "cancel", "retry-failed")]
    for method, path in [*calls, ("GET", "/items/1/image")]:
        refused = web.open(f"/batches/{other}{path}", method=method)
        assert (refused.status_code, refused.json["error"]["type"]) == (404, "batch_not_found"), path
    assert web.get("/batches").json["batches"] == []


@pytest.mark.parametrize(("scopes", "allowed"), [({"sd"}, 403), ({"batch"}, 403), ({"sd", "batch"}, 201)])
def test_batches_need_their_scopes(broker: Valkey, scopes: set[str], allowed: int) -> None:
    KEPT.append(create_app(broker.settings))
    secret, _ = Authenticator.from_settings(broker.settings, broker.client).mint(Grant("x", frozenset(scopes)))
    client = KEPT[-1].test_client()
    headers = {"Authorization": f"Bearer {secret}"}
    assert client.post("/batches", json=TWO, headers=headers).status_code == allowed
    asking: dict[str, Any] = {"name": "x", "prompts": {"ask": "y", "count": 1}}
    assert client.post("/batches", json=asking, headers=headers).status_code == 403
    assert client.post("/batches", json=TWO, headers=BEARER).status_code == 201


def test_without_a_broker_batches_are_unavailable(web_without_broker) -> None:
    for answer in (web_without_broker.post("/batches", json=TWO), web_without_broker.get("/batches")):
        assert (answer.status_code, answer.json["error"]["type"]) == (503, "broker_unavailable")


@pytest.mark.parametrize("query", ["", "?dry_run=1"])
def test_half_a_character_is_refused_with_its_path(web, broker: Valkey, query: str) -> None:
    body = json.dumps(TWO | {"items": ["a knight", {"prompt": "half \ud83d"}]})
    refused = web.post(f"/batches{query}", data=body)
    assert (refused.status_code, refused.json["error"]["type"]) == (400, "invalid_batch")
    assert [problem["path"] for problem in refused.json["error"]["problems"]] == ["items[1].prompt"]
    assert list(broker.client.scan_iter("graycat:batch*")) == []
    # JSON writes a character beyond the first 65,536 in two halves.
    assert web.post(f"/batches{query}", data=json.dumps(TWO | {"items": ["😀"]})).status_code in (200, 201)


@pytest.mark.parametrize(
    ("setting", "said"), [("maxmemory", "broker_full"), ("min-replicas-to-write", "broker_unavailable")]
)
def test_a_broker_that_refuses_to_write_is_unavailable(web, broker: Valkey, setting: str, said: str) -> None:
    nightly = {"name": "nightly", "cron": "0 1 * * *", "spec": TWO}
    broker.client.config_set(setting, 1)
    try:
        for path, body in (("/batches", TWO), ("/schedules", nightly)):
            answer = web.post(path, json=body)
            assert (answer.status_code, answer.json["error"]["type"]) == (503, said)
            assert answer.headers["Retry-After"]
    finally:
        broker.client.config_set(setting, 0)
    assert web.post("/batches", json=TWO).status_code == 201


def test_a_damaged_batch_keeps_no_other_from_being_listed(web, broker: Valkey) -> None:
    bad, good = (web.post("/batches", json=TWO).json["id"] for _ in range(2))
    broker.client.hset(f"graycat:batch:{bad}", "terms", "{half")
    assert [row["id"] for row in web.get("/batches").json["batches"]] == [good]
    assert web.get(f"/batches/{good}").status_code == 200
