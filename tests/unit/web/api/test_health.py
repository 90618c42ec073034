from __future__ import annotations

import threading

import pytest

from graycat.broker.keys import BEAT_LOCK, SCHEDULES
from graycat.loops.threads import GuardedThread
from graycat.status import snapshot
from graycat.web.api.health import BEAT_NOTE, HUB_STUCK
from tests.support.helpers import UNTRIED_S, Stopwatch, eventually


@pytest.mark.parametrize("path", ["/health", "/v1/health"])
def test_a_process_that_answers_is_alive(web, path: str) -> None:
    response = web.get(path)
    assert (response.status_code, response.json) == (200, {"status": "ok"})


def test_without_workers_nothing_is_ready(web) -> None:
    response = web.get("/ready")
    assert response.status_code == 503
    assert (response.json["ready"], response.json["workers"]) == (False, [])
    assert all(queue in response.json["reason"] for queue in ("llm", "llm.quick", "sd"))


@pytest.mark.parametrize("path", ["/health", "/v1/health"])
def test_a_unity_client_gets_503_if_no_model_is_ready(web, path: str) -> None:
    response = web.post(path, data=b"")
    assert (response.status_code, response.headers["Retry-After"]) == (503, "2")
    assert response.json["error"]["type"] == "unavailable_error"


def test_with_a_worker_on_each_queue_everything_is_ready(web, report) -> None:
    report("llm", "llm.batch", busy=1)
    report("llm.quick")
    report("sd", engine="forge")
    response = web.get("/ready")
    assert (response.status_code, response.json["ready"], response.json["reason"]) == (200, True, "")
    assert not [note for note in response.json["notes"] if "placeholder" in note]
    assert {worker["name"]: worker for worker in response.json["workers"]}["llm@box"] == {
        "name": "llm@box",
        "queues": ["llm", "llm.batch"],
        "engine": "xllamacpp",
        "state": "ready",
        "consuming": True,
        "slots": 4,
        "busy": 1,
        "gpu": None,
        "gpu_state": None,
        "paused": False,
        "left": [],
        "failures": 0,
        "trouble": "",
        "crash_loop": False,
        "last_failure": "",
        "retry_in_s": 0.0,
        "stuck": [],
    }
    assert web.post("/health", data=b"").status_code == 200


def test_without_a_control_worker_everything_is_ready_and_webhooks_wait(web, report) -> None:
    assert any("webhooks wait" in note for note in web.get("/ready").json["notes"])
    assert "control" not in web.get("/ready").json["reason"]
    report("control", engine="", props="")
    response = web.get("/ready")
    assert not [note for note in response.json["notes"] if "webhooks" in note]
    assert [(worker["engine"], worker["state"]) for worker in response.json["workers"]] == [("", "ready")]


@pytest.mark.parametrize("changes", [{"consuming": False}, {"engine_state": "loading"}, {"engine_state": "stopped"}])
def test_a_worker_that_takes_nothing_is_not_ready(web, report, changes) -> None:
    report("llm", **changes)
    report("llm.quick")
    report("sd")
    response = web.get("/ready")
    assert (response.status_code, response.json["ready"]) == (503, False)
    assert "llm" in response.json["reason"]
    assert "llm.quick" not in response.json["reason"]
    assert web.post("/health", data=b"").status_code == 503


def test_ready_shows_the_progress_of_a_download(web, report) -> None:
    report("llm", engine_state="downloading", consuming=False, trouble="downloading 42 %")
    report("llm.quick")
    report("sd")
    reply = web.get("/ready").json
    assert reply["reason"] == "no worker consumes llm; llm@box: downloading 42 %"
    states = {worker["name"]: (worker["state"], worker["trouble"]) for worker in reply["workers"]}
    assert states["llm@box"] == ("downloading", "downloading 42 %")


def test_a_queue_that_its_worker_does_not_take_from_is_not_served(web, report) -> None:
    report("llm", "llm.batch", left=("llm",))
    report("llm.quick")
    report("sd")
    reply = web.get("/ready").json
    assert reply["reason"] == "no worker consumes llm; llm@box does not take llm: paused, or told to leave"
    assert web.post("/health", data=b"").status_code == 503


def test_a_worker_whose_loop_is_stuck_is_named_and_others_serve_instead(web, report) -> None:
    report("llm", consuming=False, stuck=("stream relay",))
    report("llm.quick")
    report("sd")
    reply = web.get("/ready")
    note = "llm@box: stuck or gone: stream relay"
    assert (reply.status_code, reply.json["reason"]) == (503, f"no worker consumes llm; {note}")
    report("llm", name="llm@other")
    reply = web.get("/ready")
    assert (reply.status_code, reply.json["reason"]) == (200, "")
    assert note in reply.json["notes"]


@pytest.mark.parametrize("name", ["hub", "output"])
def test_a_web_process_whose_loop_is_stuck_is_not_ready_and_alive(web, report, name: str) -> None:
    reason = {"hub": HUB_STUCK}.get(name, f"this web process: stuck or gone: {name}")
    for queue in ("llm", "llm.quick", "sd"):
        report(queue)
    assert web.get("/ready").status_code == 200
    hangs = threading.Event()

    def hang() -> None:
        loop.beat()
        hangs.wait()

    loop = GuardedThread(name, hang)
    loop.stuck_after_s = 0.0
    loop.start()
    eventually(lambda: not web.get("/ready").json["ready"])
    reply = web.get("/ready")
    assert (reply.status_code, reply.json["reason"]) == (503, reason)
    assert web.get("/health").status_code == 200
    loop.request_stop()
    hangs.set()
    loop.join()
    assert web.get("/ready").status_code == 200


CRASHES = {"crash_loop": True, "failures": 5, "last_failure": "engine process died (killed by SIGSEGV)"}


def test_an_engine_that_fails_again_and_again_is_reported_with_why_and_when_it_is_tried_again(web, report) -> None:
    trouble = f"crash loop: {CRASHES['last_failure']}"
    report("llm", engine_state="stopped", consuming=False, trouble=trouble, retry_in_s=8.0, **CRASHES)
    report("llm.quick")
    report("sd")
    reply = web.get("/ready").json
    crash_loop = f"llm@box: {trouble} (5 failures in a row, next try in 8 s)"
    assert reply["reason"] == f"no worker consumes llm; {crash_loop}"
    assert crash_loop in reply["notes"]


def test_a_crash_loop_shows_also_while_its_engine_is_up_for_a_moment(web, report) -> None:
    report("llm", **CRASHES)
    report("llm.quick")
    report("sd")
    reply = web.get("/ready").json
    assert reply["ready"]
    assert f"llm@box: crash loop: {CRASHES['last_failure']} (5 failures in a row)" in reply["notes"]


@pytest.mark.parametrize(
    ("changes", "queues"), [({"run_sd": False}, ["llm", "llm.quick"]), ({"run_llm": False}, ["sd"])]
)
def test_what_an_operator_switched_off_is_not_missed(web_with, report, changes, queues: list[str]) -> None:
    for queue in queues:
        assert web_with(**changes).get("/ready").status_code == 503
        report(queue)
    assert web_with(**changes).get("/ready").status_code == 200


def test_ready_notes_that_the_placeholder_draws_the_images(web, report) -> None:
    report("sd", engine="placeholder")
    (note,) = [note for note in web.get("/ready").json["notes"] if "placeholder" in note]
    assert "A1111_URL" in note


def test_a_unity_client_needs_no_body_and_may_send_one(web, report) -> None:
    report("llm")
    assert [web.post("/health", data=data).status_code for data in (b"", b"null", b"no JSON")] == [200] * 3


def test_a_new_worker_is_seen_within_a_second(web_with, report) -> None:
    web = web_with()
    assert web.post("/health").status_code == 503
    report("llm")
    eventually(lambda: web.post("/health").status_code == 200, 2)


@pytest.mark.parametrize(("method", "path"), [("GET", "/ready"), ("POST", "/health"), ("POST", "/props")])
def test_while_the_broker_is_down_nothing_is_ready(web_without_broker, method: str, path: str) -> None:
    clock = Stopwatch()
    response = web_without_broker.open(path, method=method)
    assert response.status_code == 503
    assert "broker" in response.text
    assert clock.seconds < UNTRIED_S


def test_a_process_without_a_broker_is_alive_all_the_same(web_without_broker) -> None:
    assert web_without_broker.get("/health").status_code == 200


def test_a_web_process_is_well_without_engines_and_not_without_the_broker(web, web_without_broker) -> None:
    assert (web.get("/health/web").status_code, web.get("/ready").status_code) == (200, 503)
    response = web_without_broker.get("/health/web")
    assert response.status_code == 503
    assert "broker" in response.json["reason"]


def test_ready_notes_that_schedules_do_not_fire(web_with, broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshot, "MAX_AGE_S", 0.0)
    web = web_with()

    def noted() -> bool:
        return BEAT_NOTE in web.get("/ready").json["notes"]

    assert not noted()
    broker.client.sadd(SCHEDULES, "tests:nightly")
    assert noted()
    broker.client.set(BEAT_LOCK, "a beat's")
    assert not noted()


def test_an_alias_whose_model_no_worker_has_is_noted(web_with, report) -> None:
    web = web_with(model_aliases="gpt-4o=gone,mini=gemma,art=dreams")

    def noted() -> list[str]:
        return [note for note in web.get("/ready").json["notes"] if "alias" in note]

    # Nobody knows yet.
    assert noted() == []
    report("sd", lists={"sd-models": [{"title": "dreams", "model_name": "dreams"}]})
    report("llm", "llm.quick", models=["gemma"])
    eventually(lambda: len(noted()) == 1, 5)
    assert "'gone'" in noted()[0]
    assert "'gpt-4o'" in noted()[0]
    # It keeps nobody from being served.
    assert "gpt-4o" not in web.get("/ready").json["reason"]
