from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from graycat.errors import EngineError
from graycat.images import infotext
from graycat.images.webui_lists import WEBUI_LISTS
from graycat.queue.models import Verdict
from graycat.web.compat import webui
from graycat.web.services import services_of
from tests.support.helpers import Valkey, accepted, eventually, outcome_of, started
from tests.support.webuis import encoded, picture

PREFIX = "/sdapi/v1"
RED = picture("red")
#: The least that each call takes.
LEAST: dict[str, dict[str, Any]] = {
    "/txt2img": {"prompt": "a fox"},
    "/img2img": {"init_images": [encoded(RED)]},
    "/extra-single-image": {"image": encoded(RED)},
    "/extra-batch-images": {"imageList": [{"data": encoded(RED), "name": "red"}]},
    "/interrogate": {"image": encoded(RED)},
}


def test_each_call_that_renders_is_tried_here() -> None:
    assert set(LEAST) == set(webui.IMAGE_CALLS)


@pytest.mark.parametrize("path", LEAST)
def test_a_call_becomes_a_task_of_its_kind(web, take, records, path: str) -> None:
    body = LEAST[path] | {"something_new": {"a": [1.5, None, "ü"]}}
    response = outcome_of(lambda: web.post(PREFIX + path, json=body))
    attempt = take("sd")
    records.succeed(attempt, 200, b'{"caption":"a fox"}')
    assert (response().status_code, response().json) == (200, {"caption": "a fox"})
    assert (attempt.kind, attempt.mode) == (webui.IMAGE_CALLS[path][0].name, "plain")
    assert body.items() <= json.loads(attempt.body).items()


@pytest.mark.parametrize("path", LEAST)
@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{", b'{"seed": NaN}'])
def test_a_body_that_is_no_object_is_refused(web, client, path: str, data: bytes) -> None:
    response = web.post(PREFIX + path, data=data)
    assert (response.status_code, response.json["error"]) == (400, "HTTPException")
    assert client.keys("*") == []


@pytest.mark.parametrize("path", ["/extra-single-image", "/extra-batch-images", "/interrogate", "/png-info"])
def test_without_an_image_there_is_nothing_to_do(web, path: str) -> None:
    assert web.post(PREFIX + path, json={"model": "clip"}).status_code == 400


def test_an_engine_s_own_error_passes_byte_for_byte(web, take, records) -> None:
    own = b'{"error":"OutOfMemoryError","detail":"","body":"","errors":"CUDA out of memory"}'
    response = outcome_of(lambda: web.post(PREFIX + "/txt2img", json={}))
    records.fail(take("sd"), EngineError(500, own))
    assert (response().status_code, response().data) == (500, own)


def test_an_interrupted_image_task_is_answered_with_its_images(web, render) -> None:
    response = outcome_of(lambda: web.post(PREFIX + "/txt2img", json={"n_iter": 3}))
    render(RED, partial=True, info='{"partial": true}')
    assert (response().status_code, response().json["images"]) == (200, [encoded(RED)])


def test_a_cancelled_render_is_an_error(web, take, records) -> None:
    response = outcome_of(lambda: web.post(PREFIX + "/txt2img", json={}))
    records.finish_cancelled(take("sd"))
    assert (response().status_code, response().json["type"]) == (499, "task_cancelled")


@pytest.mark.parametrize("name", WEBUI_LISTS)
def test_a_list_comes_from_the_workers_reports(web, report, client, name: str) -> None:
    value = {"a": ["b"]} if name in ("scripts", "options", "embeddings") else [{"name": "b"}]
    report("sd", lists={name: value})
    assert web.get(f"{PREFIX}/{name}").json == value
    assert client.keys("graycat:task:*") == []


def test_the_lists_of_several_engines_are_one(web, report) -> None:
    report("sd", name="a@box", lists={"loras": [{"name": "one"}], "samplers": []})
    report("sd", name="b@box", lists={"loras": [{"name": "two"}]})
    report("sd", name="c@box", lists={"loras": [{"name": "hidden"}]}, consuming=False)
    assert web.get(PREFIX + "/loras").json == [{"name": "one"}, {"name": "two"}]
    assert web.get(PREFIX + "/sd-vae").json == []


def test_a_list_that_changes_is_seen(web, report) -> None:
    for name in ("one", "two"):
        report("sd", lists={"loras": [{"name": name}]})
        assert web.get(PREFIX + "/loras").json == [{"name": name}]


def test_without_an_engine_there_are_no_lists(web) -> None:
    response = web.get(PREFIX + "/samplers")
    assert (response.status_code, response.json["type"], response.headers["Retry-After"]) == (
        503,
        "unavailable_error",
        "2",
    )


@pytest.mark.parametrize(
    "path", ["/cmd-flags", "/memory", "/extensions", "/server-kill", "/train/embedding", "/samplers/"]
)
def test_what_opens_the_engine_s_host_is_not_there(web, path: str) -> None:
    for method in ("GET", "POST"):
        response = web.open(PREFIX + path, method=method, json={})
        assert (response.status_code, response.json) == (404, {"detail": "Not Found"})


@pytest.mark.parametrize("path", webui.ADMIN_CALLS)
def test_changing_engines_needs_the_admin_scope(web, report, client, path: str) -> None:
    report("sd", lists={"options": {}})
    response = web.post(PREFIX + path, json={})
    assert (response.status_code, response.json["type"]) == (403, "permission_error")
    assert client.keys("graycat:task:*") == []


@pytest.fixture
def admin(web_with, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("graycat.web.services.WORKERS_CACHE_S", 0.0)
    return web_with(admins="tests")


@pytest.mark.parametrize("path", webui.ADMIN_CALLS)
def test_an_admin_s_change_is_made_by_every_engine(admin, report, take, records, path: str) -> None:
    for name in ("a@box", "b@box"):
        report("sd", name=name, lists={"options": {}})
    report("sd", name="c@box", engine_state="loading")
    response = outcome_of(lambda: admin.post(PREFIX + path, data=b'{"samples_format":"jpg"}'))
    for name in ("a@box", "b@box"):
        attempt = take(f"sd:@{name}")
        assert (attempt.kind, attempt.body) == (webui.ADMIN_CALLS[path][0].name, b'{"samples_format":"jpg"}')
        records.succeed(attempt, 200, b"null")
    assert (response().status_code, response().data) == (200, b"null")


def test_a_change_needs_no_body(admin, report, take, records) -> None:
    report("sd")
    response = outcome_of(lambda: admin.post(PREFIX + "/refresh-loras"))
    attempt = take("sd:@sd@box")
    records.succeed(attempt, 200, b"null")
    assert (response().status_code, attempt.body) == (200, b"{}")


def test_a_change_that_fails_somewhere_is_still_made_everywhere(admin, report, take, records) -> None:
    for name in ("a@box", "b@box"):
        report("sd", name=name, lists={"sd-models": [{"title": "one"}]})
    response = outcome_of(lambda: admin.post(PREFIX + "/options", json={"sd_model_checkpoint": "one"}))
    records.fail(take("sd:@a@box"), EngineError(500, b'{"error":"RuntimeError"}'))
    second = take("sd:@b@box")
    assert "cancel" not in records.get(second.task_id)
    records.succeed(second, 200, b"null")
    assert (response().status_code, response().data) == (500, b'{"error":"RuntimeError"}')
    assert not services_of(admin.application).gateway.hub.subscriptions()


def test_a_change_that_no_engine_knows_is_refused_in_the_webui_s_form_and_reaches_none(admin, report, client) -> None:
    report("sd", lists={"options": {"jpeg_quality": 80}})
    response = admin.post(PREFIX + "/options", json={"jpeg_quality": 5, "no such setting": 1})
    assert (response.status_code, response.json["error"], response.json["type"]) == (
        400,
        "HTTPException",
        "unsupported_parameter",
    )
    assert "'no such setting'" in response.json["detail"]
    assert client.keys("graycat:task:*") == []


def test_without_an_engine_there_is_nothing_to_change(admin) -> None:
    assert admin.post(PREFIX + "/options", json={}).status_code == 503


def test_png_info_needs_no_engine(web, tmp_path) -> None:
    info = PngInfo()
    text = infotext.build("a fox", "rain", {"Steps": 4, "Sampler": "Euler a", "Seed": 5, "Size": "8x16"})
    info.add_text("parameters", text)
    Image.new("RGB", (8, 8)).save(tmp_path / "fox.png", pnginfo=info)
    found = web.post(PREFIX + "/png-info", json={"image": encoded((tmp_path / "fox.png").read_bytes())}).json
    assert (found["info"], found["items"]) == (text, {})
    assert (found["parameters"]["Prompt"], found["parameters"]["Size-2"]) == ("a fox", "16")
    assert web.post(PREFIX + "/png-info", json={"image": encoded(RED)}).json["info"] == ""


@pytest.mark.parametrize(
    ("query", "shown"), [("", True), ("?skip_current_image=true", False), ("?skip_current_image=0", True)]
)
def test_a_caller_sees_its_own_progress(web, records, query: str, shown: bool) -> None:
    attempt = started(records, kind="sd.txt2img", queue="sd")
    records.report_progress(attempt, b'{"progress": 0.5, "preview": true}')
    records.save_preview(attempt.task_id, RED)
    seen = web.get(f"{PREFIX}/progress{query}").json
    assert (seen["progress"], seen["current_image"]) == (0.5, encoded(RED) if shown else None)


def test_an_interrupt_affects_only_the_caller_s_running_image_tasks(web, records) -> None:
    mine = started(records, kind="sd.txt2img", queue="sd")
    other = started(records, kind="sd.txt2img", queue="sd", owner="somebody else")
    text = started(records)
    waiting = accepted(records, kind="sd.txt2img", queue="sd")
    assert (web.post(PREFIX + "/interrupt").json, web.post(PREFIX + "/interrupt").status_code) == ({}, 200)
    wishes = [records.get(task_id).get("cancel") for task_id in (mine.task_id, other.task_id, text.task_id, waiting)]
    assert wishes == [Verdict.INTERRUPT, None, None, None]
    assert records.get(waiting)["state"] == "queued"


@pytest.mark.parametrize(("path", "how"), [("/interrupt", "interrupt"), ("/skip", "skip")])
def test_the_worker_gets_the_command_at_once(
    web, records, broker: Valkey, path: str, how: str, next_command: Callable[[], Any]
) -> None:
    attempt = started(records, kind="sd.txt2img", queue="sd")
    assert web.post(PREFIX + path).status_code == 200
    command = eventually(next_command)
    assert command["arguments"] == {"task_id": attempt.task_id, "how": how}
    assert (command["method"], command["destination"]) == ("stop_task", ["llm@here"])


@pytest.mark.parametrize(("path", "answer"), [("/interrupt", {}), ("/skip", None)])
def test_an_interrupt_without_a_running_task_does_nothing(web, path: str, answer: Any) -> None:
    response = web.post(PREFIX + path)
    assert (response.status_code, response.json) == (200, answer)


def test_the_engines_lists_name_no_paths_but_for_admins(web, admin, report) -> None:
    lists = {
        "sd-models": [{"title": "sub/x.safetensors [ab]", "filename": "/srv/models/sub/x.safetensors"}],
        "loras": [{"name": "l", "path": r"C:\\loras\\l.safetensors", "metadata": {"ss_dir": "/home/jane"}}],
        "options": {"outdir_samples": "/srv/out", "samples_format": "png"},
        "prompt-styles": [{"name": "s", "prompt": "/imagine a/b", "negative_prompt": ""}],
    }
    report("sd", lists=lists)
    shown = {name: web.get(f"{PREFIX}/{name}").json for name in lists}
    assert shown == {
        "sd-models": [{"title": "sub/x.safetensors [ab]", "filename": "x.safetensors"}],
        "loras": [{"name": "l", "path": "l.safetensors"}],
        "options": {"outdir_samples": "out", "samples_format": "png"},
        "prompt-styles": lists["prompt-styles"],
    }
    for name, own in lists.items():
        assert admin.get(f"{PREFIX}/{name}").json == own
