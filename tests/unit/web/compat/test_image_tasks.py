from __future__ import annotations

import json
from functools import partial
from typing import Any

import gevent
import pytest

from graycat.broker import keys
from graycat.errors import ModelNotFound, RequestError
from graycat.queue.kinds import TXT2IMG
from graycat.web.compat.image_tasks import choose_queue, run_in_thread
from tests.support.helpers import outcome_of
from tests.support.webuis import encoded, picture

RED, BLUE = picture("red"), picture("blue", "JPEG")
FOX = {"prompt": "a fox", "width": 64, "height": 64}
ASYNC = {"Prefer": "respond-async"}
MODEL = {
    "title": "people/Real One.safetensors [0123456789]",
    "model_name": "people_Real One",
    "hash": "0123456789",
    "sha256": "0123456789abcdef",
    "filename": "C:\\models\\people\\Real One.safetensors",
    "config": None,
}
OTHER = {"title": "other.ckpt", "model_name": "other", "hash": None, "sha256": None, "filename": "/m/other.ckpt"}


def fail(prompt: str) -> str:
    raise RequestError(f"cannot be used: {len(prompt)} characters")


def test_run_in_thread_returns_the_result() -> None:
    assert run_in_thread(partial(str.upper, "a fox")) == "A FOX"


def test_run_in_thread_raises_the_error_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(RequestError, match="13 characters"):
        run_in_thread(partial(fail, "a secret wish"))
    gevent.sleep(0)
    assert capfd.readouterr() == ("", "")


def test_a_render_is_answered_with_its_images_as_the_engine_wrote_them(web, render) -> None:
    response = outcome_of(lambda: web.post("/sdapi/v1/txt2img", json=FOX))
    render(RED, BLUE, info='{"seed": 1}')
    assert response().status_code == 200
    assert response().json == {"images": [encoded(RED), encoded(BLUE)], "parameters": {}, "info": '{"seed": 1}'}


def test_the_engine_gets_the_checked_body(web, take, records) -> None:
    response = web.post("/sdapi/v1/txt2img", json=FOX | {"save_images": True, "unknown": [1.5]}, headers=ASYNC)
    attempt = take("sd")
    assert response.json["id"] == attempt.task_id
    assert json.loads(attempt.body) == FOX | {"save_images": False, "unknown": [1.5]}
    assert (attempt.kind, attempt.mode) == ("sd.txt2img", "plain")


def test_respond_async_returns_the_task_s_address(web, render) -> None:
    response = web.post("/sdapi/v1/txt2img", json=FOX, headers=ASYNC)
    assert (response.status_code, response.headers["Preference-Applied"]) == (202, "respond-async")
    attempt = render(RED)
    shown = web.get(response.headers["Location"]).json
    address = f"/tasks/{attempt.task_id}/images/0"
    assert (shown["id"], shown["result"]["images"]) == (attempt.task_id, [{"url": address}])
    assert web.get(address).data == RED


def test_an_image_task_has_an_image_task_s_deadlines(web_with, take, records) -> None:
    web = web_with(sd_queue_ttl_s=300.0, sd_exec_timeout_s=120.0, queue_ttl_s=1.0, exec_timeout_s=2.0)
    web.post("/sdapi/v1/txt2img", json=FOX, headers=ASYNC)
    attempt = take("sd")
    record = records.get(attempt.task_id)
    assert attempt.exec_timeout_s == 120.0
    assert int(record["queue_deadline_ms"]) - int(record["submitted_ms"]) == 300_000


def test_images_that_are_gone_are_not_half_an_answer(web, take, records) -> None:
    response = outcome_of(lambda: web.post("/sdapi/v1/txt2img", json=FOX))
    records.succeed(take("sd"), 200, b'{"images": [{"artifact": 0}]}')
    assert (response().status_code, response().json["type"]) == (503, "artifacts_unavailable")
    assert response().headers["Retry-After"] == "5"


@pytest.mark.parametrize("reply", [b"null", b"[1]", b'"text"'])
def test_an_answer_without_images_passes(web, take, records, reply: bytes) -> None:
    response = outcome_of(lambda: web.post("/sdapi/v1/txt2img", json=FOX))
    records.succeed(take("sd"), 200, reply)
    assert (response().status_code, response().data) == (200, reply)


@pytest.mark.parametrize(
    ("body", "status", "kind"),
    [
        ({"prompt": "x" * 101}, 413, "prompt_too_large"),
        ({"prompt": "a", "negative_prompt": "x" * 100}, 413, "prompt_too_large"),
        ({"width": 100_000}, 400, "too_much_work"),
        ({"init_images": ["http://169.254.169.254/"]}, 400, "invalid_image"),
        ({"override_settings": {"outdir_samples": "/"}}, 400, "setting_not_allowed"),
    ],
)
def test_what_is_refused_is_never_queued(web_with, client, body: dict[str, Any], status: int, kind: str) -> None:
    response = web_with(max_prompt_chars=100).post("/sdapi/v1/txt2img", json=body)
    assert (response.status_code, response.json["type"]) == (status, kind)
    assert client.keys("graycat:task:*") == []


def test_a_body_with_images_may_be_larger_than_others(web_with) -> None:
    web = web_with(max_body_bytes=100, max_image_body_bytes=1000)
    assert web.post("/sdapi/v1/png-info", json={"image": encoded(RED)}).status_code == 200
    response = web.post("/sdapi/v1/png-info", json={"image": "x" * 1000})
    assert (response.status_code, response.json["type"]) == (413, "body_too_large")
    assert "GRAYCAT_MAX_IMAGE_BODY_BYTES" in response.text
    assert web.post("/tokenize", json={"content": "x" * 100}).status_code == 413


def chosen(web, name: Any, **overrides: Any) -> str:
    """Return the queue of a render that names a checkpoint."""
    with web.application.test_request_context():
        return choose_queue(TXT2IMG, {"override_settings": {"sd_model_checkpoint": name, **overrides}})


@pytest.mark.parametrize(
    "name",
    [
        *(MODEL["title"], MODEL["model_name"], MODEL["hash"], MODEL["sha256"], MODEL["filename"]),
        *(
            "people/Real One.safetensors",
            "Real One.safetensors",
            "real one.safetensors [0123456789]",
            "0123456789ABCDEF",
        ),
    ],
)
def test_a_checkpoint_has_all_the_names_that_a_webui_knows(web, report, name: str) -> None:
    report("sd", name="a@box", lists={"sd-models": [MODEL, OTHER]})
    report("sd", name="b@box", lists={"sd-models": [OTHER]})
    assert chosen(web, name) == "sd:@a@box"


def test_a_checkpoint_that_every_engine_has_needs_no_choice(web, report) -> None:
    assert chosen(web, "anything") == "sd"
    report("sd", name="a@box", lists={"sd-models": [OTHER]})
    report("sd", name="b@box", lists={"sd-models": [OTHER]})
    assert chosen(web, "other") == "sd"


def test_of_several_engines_with_a_checkpoint_the_least_busy_is_chosen(web, report) -> None:
    for name, models, busy in (("a@box", [OTHER], 0), ("b@box", [MODEL], 1), ("c@box", [MODEL], 0)):
        report("sd", name=name, lists={"sd-models": models}, busy=busy)
    assert chosen(web, MODEL["hash"]) == "sd:@c@box"


@pytest.mark.parametrize("name", ["unknown", "re", ".safetensors", "None"])
def test_a_checkpoint_that_no_engine_has_is_not_found(web, report, name: str) -> None:
    report("sd", lists={"sd-models": [MODEL, OTHER, "strange", {"title": ""}]})
    with pytest.raises(ModelNotFound):
        chosen(web, name)
    response = web.post("/sdapi/v1/txt2img", json=FOX | {"override_settings": {"sd_model_checkpoint": name}})
    assert (response.status_code, response.json["type"]) == (404, "model_not_found")


@pytest.mark.parametrize("name", [None, "", 5, ["a"]])
def test_a_body_without_a_checkpoint_goes_to_any_engine(web, report, name: Any) -> None:
    report("sd", lists={"sd-models": [MODEL]})
    assert chosen(web, name) == "sd"
    with web.application.test_request_context():
        assert [choose_queue(TXT2IMG, body) for body in ({}, {"override_settings": None})] == ["sd", "sd"]


def test_an_engine_that_does_not_serve_now_is_not_chosen(web, report) -> None:
    report("sd", name="a@box", lists={"sd-models": [MODEL]}, engine_state="loading")
    report("sd", name="b@box", lists={"sd-models": [OTHER]})
    with pytest.raises(ModelNotFound):
        chosen(web, MODEL["hash"])


def test_a_catalog_that_was_gone_for_a_moment_is_read_again(web, report, client) -> None:
    report("sd", lists={"sd-models": [OTHER]})
    client.delete(keys.catalog_key("sd@box"))
    assert chosen(web, "other") == "sd"
    report("sd", lists={"sd-models": [OTHER]})
    with pytest.raises(ModelNotFound):
        chosen(web, "unknown")


def test_a_style_that_sets_parameters_is_refused(web, report) -> None:
    report(
        "sd", lists={"prompt-styles": [{"name": "plain", "extra": ""}, {"name": "large", "extra": "Size: 4096x4096"}]}
    )
    for path in ("/sdapi/v1/txt2img", "/generate-image"):
        refused = web.post(path, json=FOX | {"styles": ["plain", "large"]}, headers=ASYNC)
        assert (refused.status_code, "styles[1]" in refused.get_data(as_text=True)) == (400, True)
    assert web.post("/sdapi/v1/txt2img", json=FOX | {"styles": ["plain"]}, headers=ASYNC).status_code == 202


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/sdapi/v1/txt2img", {"prompt": "a fox", "enable_hr": True}, "enable_hr"),
        ("/generate-image", {"prompt": "a <lyco:x:1>"}, "prompt"),
        ("/sdapi/v1/interrogate", {"image": encoded(picture())}, "interrogate"),
        ("/tasks", {"kind": "sd.txt2img", "input": {"prompt": "a fox", "tiling": True}}, "tiling"),
        (
            "/batches",
            {"name": "foxes", "items": [{"prompt": "a"}, {"prompt": "b", "restore_faces": True}]},
            "restore_faces",
        ),
    ],
)
def test_what_no_engine_can_do_is_refused_before_it_waits(web, report, client, path, body, param) -> None:
    report("sd", lists={"engine": {"api": "comfyui"}})
    response = web.post(path, json=body)
    assert response.status_code == 400
    assert f"{param}" in response.get_data(as_text=True)
    assert client.keys("graycat:task:*") == []
