"""What the page says of the fleet, to anybody."""

from __future__ import annotations

from typing import Any

import pytest

from graycat.web.api.health import SERVES_NOTHING
from graycat.web.page import readiness
from graycat.web.page.readiness import NO_QUICK, NOTHING, PLACEHOLDER, READY, Part, Readiness
from graycat.web.services import services_of


def read(web: Any) -> Readiness:
    with web.application.app_context():
        return readiness.read(services_of(web.application))


def test_without_workers_each_family_says_so(web) -> None:
    found = read(web)
    assert not found.ready
    assert found.parts == (
        Part("Text", False, "no worker has reported itself"),
        Part("Images", False, "no worker has reported itself"),
    )


def test_with_all_workers_it_is_ready(web, report) -> None:
    report("llm", "llm.batch")
    report("llm.quick")
    report("sd", engine="forge")
    assert read(web) == Readiness(ready=True, parts=(Part("Text", True, READY), Part("Images", True, READY)))


def test_a_placeholder_is_named_as_one(web, report) -> None:
    report("sd", engine="placeholder")
    assert Part("Images", True, PLACEHOLDER) in read(web).parts


def test_text_without_its_short_calls_is_not_ready(web, report) -> None:
    report("llm")
    report("sd")
    found = read(web)
    assert (found.ready, found.parts[0]) == (False, Part("Text", False, NO_QUICK))


@pytest.mark.parametrize(
    ("changes", "state"),
    [
        ({"engine_state": "downloading"}, "its engine downloads a model"),
        ({"engine_state": "loading"}, "its engine loads a model"),
        ({"engine_state": "stopped"}, "its engine starts"),
        ({"engine_state": "stuck"}, "its engine does not answer"),
        ({"engine_state": "of a later release"}, "its worker takes no tasks"),
        ({"engine_state": "stopped", "crash_loop": True}, "its engine fails again and again"),
        ({"paused": True}, "paused by an operator"),
        ({"left": ("llm",)}, "paused by an operator"),
    ],
)
def test_a_worker_that_does_not_serve_says_why(web, report, changes: dict[str, Any], state: str) -> None:
    report("llm", **{"consuming": False} | changes)
    assert read(web).parts[0] == Part("Text", False, state)


def test_a_family_that_is_turned_off_is_shown_only_if_a_worker_elsewhere_serves_it(web_with, report) -> None:
    web = web_with(run_sd=False)
    assert [part.title for part in read(web).parts] == ["Text"]
    report("sd")
    web.application.extensions["graycat"].forget_workers()
    assert [part.title for part in read(web).parts] == ["Text", "Images"]


def test_a_server_without_engines_and_without_boxes_is_not_ready(web_with, report) -> None:
    web = web_with(run_llm=False, run_sd=False, admins="tests")
    found = read(web)
    assert (found.ready, found.reason, found.parts) == (False, NOTHING, ())
    status = web.get("/status").get_json()
    assert (status["served"], status["reason"]) == (False, SERVES_NOTHING)
    report("sd")
    web.application.extensions["graycat"].forget_workers()
    assert (read(web).ready, read(web).reason) == (True, "")


def test_a_web_process_whose_loops_are_gone_is_not_ready(web, report, monkeypatch: pytest.MonkeyPatch) -> None:
    for queue in ("llm", "llm.quick", "sd"):
        report(queue)
    monkeypatch.setattr("graycat.web.page.readiness.stuck_here", lambda: "no events")
    found = read(web)
    assert (found.ready, found.reason) == (False, "no events")
