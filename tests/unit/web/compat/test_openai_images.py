from __future__ import annotations

import io
import json
from typing import Any

import pytest

from graycat.errors import EngineError
from tests.support.helpers import outcome_of
from tests.support.webuis import encoded, picture

RED, BLUE = picture("red"), picture("blue")
PHOTO = picture("green", "JPEG", (24, 16))
FOX = {"prompt": "a fox"}
ASYNC = {"Prefer": "respond-async"}

#: What no response format is.
NO_FORMATS: tuple[Any, ...] = ([], {}, 0, False)


def form(**fields: Any) -> dict[str, Any]:
    """Return the parts of a form; bytes are files."""
    return {
        name.replace("__", "[]"): (io.BytesIO(value), f"{name}.png") if isinstance(value, bytes) else value
        for name, value in fields.items()
    }


def test_one_image_is_made_with_few_words(web, render) -> None:
    response = outcome_of(lambda: web.post("/generate-image", json=FOX))
    attempt = render(RED, info='{"seed": 5}')
    assert response().json == {"image_base64": encoded(RED), "info": {"seed": 5}, "task_id": attempt.task_id}
    sent = json.loads(attempt.body)
    assert (attempt.kind, sent["prompt"], sent["steps"], sent["batch_size"]) == ("sd.txt2img", "a fox", 20, 1)


WARNING = {"field": "seed", "asked": 3_000_000_000, "made": 852_516_352, "message": "another seed"}


@pytest.mark.parametrize("path", ["/generate-image", "/v1/images/generations", "/sdapi/v1/txt2img"])
def test_what_was_made_otherwise_is_told_on_every_route(web, render, path: str) -> None:
    response = outcome_of(lambda: web.post(path, json=FOX))
    render(RED, info="{}", warnings=[WARNING])
    assert response().json["warnings"] == [WARNING]


def test_one_image_takes_every_field_but_a_count(web, take) -> None:
    body = FOX | {"steps": 4, "width": 64, "seed": 7, "batch_size": 5, "n_iter": 3, "send_images": False}
    assert web.post("/generate-image", json=body, headers=ASYNC).status_code == 202
    sent = json.loads(take("sd").body)
    assert (sent["steps"], sent["width"], sent["seed"]) == (4, 64, 7)
    assert (sent["batch_size"], sent["n_iter"], sent["send_images"]) == (1, 1, True)


@pytest.mark.parametrize("body", [{}, {"prompt": 5}, {"prompt": None}, {"prompt": ["a fox"]}, []])
def test_without_a_prompt_there_is_no_image(web, client, body: Any) -> None:
    response = web.post("/generate-image", json=body)
    assert (response.status_code, response.json["error"]["type"]) == (400, "invalid_request_error")
    assert client.keys("*") == []


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("negativ_prompt", "did you mean 'negative_prompt'?"),
        ("num_inference_steps", "did you mean 'steps'?"),
        ("size", "did you mean 'width and height'?"),
        ("zzzz", "leave it out"),
    ],
)
def test_a_field_that_no_engine_reads_is_refused_with_the_one_that_is_meant(web, client, name: str, meant: str) -> None:
    error = web.post("/generate-image", json=FOX | {name: None}, headers=ASYNC).json["error"]
    assert (error["code"], error["type"], error["param"]) == (400, "unsupported_parameter", name)
    assert meant in error["message"]
    assert client.keys("*") == []
    # Clients of the WebUI send fields of their own.
    assert web.post("/sdapi/v1/txt2img", json=FOX | {name: 1}, headers=ASYNC).status_code == 202


def test_a_misspelt_field_of_openai_s_comes_with_the_one_that_is_meant(web) -> None:
    error = web.post("/v1/images/generations", json=FOX | {"qualty": "low"}).json["error"]
    assert (error["code"], error["param"]) == (400, "qualty")
    assert "did you mean 'quality'?" in error["message"]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        (FOX | {"n": 0}, "n"),
        (FOX | {"n": 99}, "n"),
        (FOX | {"size": "big"}, "size"),
        (FOX | {"size": "9999x64"}, "size"),
        (FOX | {"size": "8192x8192"}, "size"),
        (FOX | {"seed": 1.5}, "seed"),
        (FOX | {"steps": 151}, "steps"),
        (FOX | {"stream": "perhaps"}, "stream"),
        (FOX | {"negative_prompt": 5}, "negative_prompt"),
        (FOX | {"model": 5}, "model"),
        (FOX | {"model": "/etc/passwd"}, "model"),
        (FOX | {"prompt": "<lora:zzz:1>"}, "prompt"),
        (FOX | {"prompt": "<lora:x:1>" * 17}, "prompt"),
        (FOX | {"quality": "best"}, "quality"),
        (FOX | {"output_compression": 101}, "output_compression"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_each_error_of_openai_s_routes_names_its_field(web, report, client, body: dict[str, Any], param: str) -> None:
    report("sd", lists={"loras": [{"name": "ink"}]})
    error = web.post("/v1/images/generations", json=body).json["error"]
    assert (error["code"], error["param"]) == (400, param)
    assert client.keys("graycat:task:*") == []


@pytest.mark.parametrize(
    ("parts", "param"),
    [
        ({"prompt": "a fox"}, "image"),
        ({"prompt": "a fox", "image": b"no image"}, "image"),
        ({"prompt": "a fox", "image": RED, "mask": b"no image"}, "mask"),
        ({"prompt": "a fox", "image": RED, "mask": PHOTO}, "mask"),
        ({"image": RED}, "prompt"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_each_error_of_an_edit_names_its_field(web, parts: dict[str, Any], param: str) -> None:
    error = web.post("/v1/images/edits", data=form(**parts)).json["error"]
    assert (error["code"], error["param"]) == (400, param)


def test_a_misspelt_prompt_is_found(web) -> None:
    error = web.post("/generate-image", json={"promt": "a fox"}).json["error"]
    assert error["param"] == "promt"
    assert "'prompt'" in error["message"]


def test_one_image_takes_the_fields_that_the_operator_names(web_with, take) -> None:
    web = web_with(sd_fields="mood")
    assert web.post("/generate-image", json=FOX | {"mood": "calm"}, headers=ASYNC).status_code == 202
    assert json.loads(take("sd").body)["mood"] == "calm"


@pytest.mark.parametrize("info", ["", "no JSON", "5", "null", None])
def test_an_image_without_info_is_no_error(web, render, info: Any) -> None:
    response = outcome_of(lambda: web.post("/generate-image", json=FOX))
    render(RED, info=info)
    assert (response().status_code, response().json["info"]) == (200, {})


@pytest.mark.parametrize(
    ("partial", "info", "status", "kind"),
    [(True, '{"partial": true}', 499, "task_cancelled"), (False, "{}", 502, "engine_nonsense")],
)
def test_an_answer_without_an_image_is_an_error(web, render, partial: bool, info: str, status: int, kind: str) -> None:
    response = outcome_of(lambda: web.post("/generate-image", json=FOX))
    render(partial=partial, info=info)
    assert (response().status_code, response().json["error"]["type"]) == (status, kind)


def test_an_engine_s_error_is_passed_on(web, take, records) -> None:
    response = outcome_of(lambda: web.post("/generate-image", json=FOX))
    records.fail(take("sd"), EngineError(500, b'{"error":"OutOfMemoryError"}'))
    assert (response().status_code, response().data) == (500, b'{"error":"OutOfMemoryError"}')


def test_images_are_generated_in_openai_s_form(web, render) -> None:
    body = FOX | {"n": 2, "size": "64x128", "model": "gpt-image-1"}
    response = outcome_of(lambda: web.post("/v1/images/generations", json=body))
    attempt = render(RED, BLUE)
    assert response().json["data"] == [{"b64_json": encoded(RED)}, {"b64_json": encoded(BLUE)}]
    assert (response().json["output_format"], response().json["created"] > 1_700_000_000) == ("png", True)
    sent = json.loads(attempt.body)
    assert (sent["batch_size"], sent["width"], sent["height"], sent["steps"]) == (2, 64, 128, 20)


def test_images_may_be_answered_as_urls(web, shared_app, render) -> None:
    body = FOX | {"response_format": "url"}
    response = outcome_of(lambda: web.post("/v1/images/generations", json=body))
    attempt = render(RED, BLUE)
    urls = [item["url"] for item in response().json["data"]]
    prefix = f"http://localhost/tasks/{attempt.task_id}/images"
    assert [url.partition("?")[0] for url in urls] == [f"{prefix}/{number}" for number in range(2)]
    # A browser has no API token.
    stranger = shared_app.test_client()
    assert stranger.get(urls[1]).data == BLUE
    assert stranger.get(urls[1].replace("images/1", "images/0")).status_code == 403
    assert stranger.get(urls[1].partition("&")[0]).status_code == 401


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": ""},
        {"size": "large"},
        {"n": 0},
        {"n": 100},
        {"response_format": "png"},
        {"stream": 1},
        *({"response_format": value} for value in NO_FORMATS),
    ],
)
def test_what_openai_would_refuse_is_refused(web, client, change: dict[str, Any]) -> None:
    response = web.post("/v1/images/generations", json=FOX | change)
    assert (response.status_code, response.json["error"]["code"]) == (400, 400)
    assert client.keys("*") == []


@pytest.mark.parametrize("name", ["image", "image__"])
def test_an_image_is_changed_in_openai_s_form(web, render, name: str) -> None:
    parts = form(**{name: PHOTO}, prompt="an owl", n="1", stream="false")
    response = outcome_of(lambda: web.post("/v1/images/edits", data=parts))
    attempt = render(RED)
    assert response().json["data"] == [{"b64_json": encoded(RED)}]
    sent = json.loads(attempt.body)
    assert (attempt.kind, sent["prompt"], sent["init_images"]) == ("sd.img2img", "an owl", [encoded(PHOTO)])
    assert (sent["width"], sent["height"]) == (24, 16)


@pytest.mark.parametrize(
    ("parts", "status", "kind"),
    [
        ({"prompt": "an owl"}, 400, "invalid_request_error"),
        ({"prompt": "an owl", "image": "a word"}, 400, "invalid_request_error"),
        ({"image": PHOTO}, 400, "invalid_request_error"),
        ({"prompt": "an owl", "image": PHOTO, "image2": PHOTO}, 400, "unsupported_parameter"),
        ({"prompt": "an owl", "image": PHOTO, "style": "vivid"}, 400, "unsupported_parameter"),
        ({"prompt": "an owl", "image": b"no image"}, 400, "invalid_image"),
        ({"prompt": "an owl", "image": PHOTO, "mask": PHOTO}, 400, "invalid_request_error"),
        ({"prompt": "an owl", "image": PHOTO + b"\0" * 3000}, 413, "image_too_large"),
        ({"prompt": "an owl", "image": PHOTO + b"\0" * 9000}, 413, "body_too_large"),
    ],
)
def test_an_edit_that_cannot_be_made_is_refused(web_with, client, parts, status: int, kind: str) -> None:
    response = web_with(max_image_bytes=2000, max_image_body_bytes=8000).post("/v1/images/edits", data=form(**parts))
    assert (response.status_code, response.json["error"]["type"]) == (status, kind)
    assert client.keys("*") == []


def test_an_edit_that_is_no_form_is_refused(web) -> None:
    assert web.post("/v1/images/edits", json=FOX).status_code == 400


@pytest.mark.parametrize("path", ["/v1/images/generations", "/generate-image"])
def test_respond_async_returns_the_task_s_address(web, render, path: str) -> None:
    response = web.post(path, json=FOX, headers=ASYNC)
    attempt = render(RED)
    assert (response.status_code, response.headers["Location"]) == (202, f"/tasks/{attempt.task_id}")
    assert web.get(f"/tasks/{attempt.task_id}/images/0").data == RED


@pytest.mark.parametrize("path", ["/v1/images/generations", "/v1/images/edits", "/generate-image"])
def test_these_routes_want_a_bearer_token(web, shared_app, path: str) -> None:
    stranger = shared_app.test_client()
    assert stranger.post(path, json=FOX).status_code == 401


def photo() -> tuple[io.BytesIO, str]:
    return io.BytesIO(PHOTO), "a.png"


@pytest.mark.parametrize("names", [("image[]", "image[]"), ("image", "image[]"), ("image", "image")])
def test_a_second_image_is_refused_by_its_path(web, client, names: tuple[str, str]) -> None:
    parts: dict[str, Any] = {"prompt": "an owl"}
    for name in names:
        parts.setdefault(name, []).append(photo())
    response = web.post("/v1/images/edits", data=parts)
    assert (response.status_code, response.json["error"]["type"]) == (400, "unsupported_parameter")
    assert response.json["error"]["param"] == "image[1]"
    assert client.keys("*") == []


def test_a_field_that_comes_twice_is_refused(web) -> None:
    twice = web.post("/v1/images/edits", data={"prompt": ["an owl", "a hen"], "image": photo()})
    assert (twice.status_code, twice.json["error"]["param"]) == (400, "prompt")


def test_the_label_is_the_file_s_own(web, render) -> None:
    response = outcome_of(lambda: web.post("/v1/images/generations", json=FOX))
    render(PHOTO)
    assert response().json["output_format"] == "jpeg"


def test_a_format_travels_with_the_task_and_a_model_chooses_the_checkpoint(web, take, report) -> None:
    report("sd", lists={"sd-models": [{"title": "dreams", "model_name": "dreams"}]})
    body = FOX | {"output_format": "webp", "output_compression": 60, "model": "dreams"}
    assert web.post("/v1/images/generations", json=body, headers=ASYNC).status_code == 202
    sent = json.loads(take("sd").body)
    assert sent["graycat_output"] == {"format": "webp", "quality": 60}
    assert sent["override_settings"] == {"sd_model_checkpoint": "dreams"}
    unknown = web.post("/v1/images/generations", json=FOX | {"model": "nobody"})
    assert (unknown.status_code, unknown.json["error"]["type"]) == (404, "model_not_found")


def test_models_of_images_are_listed(web, report) -> None:
    lists = {"sd-models": [{"title": "dreams [1]", "model_name": "dreams"}, {"title": "x"}, 7]}
    report("sd", lists=lists)
    report("llm", model_list='{"object": "list", "data": [{"id": "gemma", "object": "model"}]}')
    listed = web.get("/v1/models").json["data"]
    assert [(model["id"], model.get("type")) for model in listed] == [("gemma", None), ("dreams", "image")]


def test_an_unknown_model_is_served_if_the_operator_wants_that(web_with, take, report) -> None:
    report("sd", lists={"sd-models": [{"title": "dreams", "model_name": "dreams"}]})
    web = web_with(unknown_model="serve")
    for model, named in (("nobody", False), ("dreams", True)):
        assert web.post("/v1/images/generations", json=FOX | {"model": model}, headers=ASYNC).status_code == 202
        assert ("override_settings" in json.loads(take("sd").body)) is named
