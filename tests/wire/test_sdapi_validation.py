"""What sdapi takes, converts and refuses, and the shapes in which it does."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
import requests

from tests.support.webui_wire import WebUI, red

SMALL = {"width": 64, "height": 64, "steps": 1, "send_images": False}


def problems(webui: WebUI, name: str, body: Any) -> list[dict[str, Any]]:
    """Return the items of the 422 that a body gets."""
    response = webui.call("POST", name, body)
    assert response.status_code == 422, response.text
    assert list(response.json()) == ["detail"]
    items: list[dict[str, Any]] = response.json()["detail"]
    return items


@pytest.mark.parametrize(
    ("field", "sent", "echoed"),
    [
        ("steps", "12", 12),
        ("steps", 2.7, 2),
        ("steps", True, 1),
        ("cfg_scale", "7.5", 7.5),
        ("cfg_scale", 3, 3.0),
        ("prompt", 5, "5"),
        ("prompt", 2.5, "2.5"),
        ("prompt", True, "True"),
        ("tiling", "no", False),
        ("tiling", "TRUE", True),
        ("tiling", 1, True),
        ("tiling", "off", False),
        ("styles", ["a", 1], ["a", "1"]),
        ("override_settings", [["CLIP_stop_at_last_layers", 2]], {"CLIP_stop_at_last_layers": 2}),
    ],
)
def test_a_value_is_converted(webui: WebUI, field: str, sent: object, echoed: object) -> None:
    value = webui.post("txt2img", SMALL | {field: sent})["parameters"][field]
    assert (value, type(value)) == (echoed, type(echoed))


@pytest.mark.parametrize(
    ("field", "sent", "msg", "kind"),
    [
        ("steps", "abc", "value is not a valid integer", "type_error.integer"),
        ("steps", [1], "value is not a valid integer", "type_error.integer"),
        ("cfg_scale", "x", "value is not a valid float", "type_error.float"),
        ("prompt", ["a"], "str type expected", "type_error.str"),
        ("tiling", "perhaps", "value could not be parsed to a boolean", "type_error.bool"),
        ("tiling", [], "value could not be parsed to a boolean", "type_error.bool"),
        ("tiling", 2, "value could not be parsed to a boolean", "type_error.bool"),
        ("styles", "a", "value is not a valid list", "type_error.list"),
        ("override_settings", 5, "value is not a valid dict", "type_error.dict"),
        ("script_args", None, "none is not an allowed value", "type_error.none.not_allowed"),
    ],
)
def test_a_value_that_does_not_fit_is_a_422(webui: WebUI, field: str, sent: object, msg: str, kind: str) -> None:
    assert problems(webui, "txt2img", {field: sent}) == [{"loc": ["body", field], "msg": msg, "type": kind}]


def test_every_problem_is_told(webui: WebUI) -> None:
    items = problems(webui, "txt2img", {"height": "b", "styles": ["a", {}, []], "width": "a"})
    assert [item["loc"] for item in items] == [
        ["body", "styles", 1],
        ["body", "styles", 2],
        ["body", "width"],
        ["body", "height"],
    ]


NEVER_NULL = ["sampler_index", "script_args", "send_images", "save_images", "alwayson_scripts"]


@pytest.mark.parametrize(
    ("name", "fields"),
    [("txt2img", NEVER_NULL), ("img2img", [*NEVER_NULL, "denoising_strength", "include_init_images"])],
)
def test_only_some_fields_must_not_be_null(webui: WebUI, name: str, fields: list[str]) -> None:
    given = webui.post(name, SMALL | {"init_images": [red()]})["parameters"]
    items = problems(webui, name, dict.fromkeys(given))
    assert {item["loc"][1] for item in items} == set(fields)
    assert {item["type"] for item in items} == {"type_error.none.not_allowed"}


def test_unknown_fields_are_ignored_and_not_echoed(webui: WebUI) -> None:
    assert "no_such_field" not in webui.post("txt2img", SMALL | {"no_such_field": 1})["parameters"]


@pytest.mark.parametrize("data", [b"", b"null"])
def test_an_empty_body_is_a_missing_one(webui: WebUI, data: bytes) -> None:
    response = webui.call("POST", "txt2img", data=data, headers={"Content-Type": "application/json"})
    assert response.status_code == 422
    missing = {"loc": ["body"], "msg": "field required", "type": "value_error.missing"}
    assert response.json() == {"detail": [missing]}


def test_broken_json_is_told_with_its_place(webui: WebUI) -> None:
    response = webui.call("POST", "txt2img", data=b'{"steps": }', headers={"Content-Type": "application/json"})
    (item,) = response.json()["detail"]
    assert (response.status_code, item["loc"], item["type"]) == (422, ["body", 10], "value_error.jsondecode")
    assert item["msg"] == "Expecting value: line 1 column 11 (char 10)"
    assert item["ctx"] == {"msg": "Expecting value", "doc": '{"steps": }', "pos": 10, "lineno": 1, "colno": 11}


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"])
def test_another_content_type_is_no_object(webui: WebUI, content_type: str) -> None:
    response = webui.call("POST", "txt2img", data=b'{"steps": 1}', headers={"Content-Type": content_type})
    wrong = {"loc": ["body"], "msg": "value is not a valid dict", "type": "type_error.dict"}
    assert (response.status_code, response.json()) == (422, {"detail": [wrong]})


@pytest.mark.parametrize("content_type", ["", "application/json; charset=utf-8", "application/vnd.api+json"])
def test_json_by_another_name_or_none_is_read(webui: WebUI, content_type: str) -> None:
    headers = {"Content-Type": content_type} if content_type else {}
    assert webui.call("POST", "txt2img", data=json.dumps(SMALL).encode(), headers=headers).status_code == 200


def test_what_is_no_text_is_a_400(webui: WebUI) -> None:
    response = webui.call("POST", "txt2img", data=b"\xff\xfe\xff", headers={"Content-Type": "application/json"})
    assert (response.status_code, response.json()["detail"]) == (400, "There was an error parsing the body")


@pytest.mark.parametrize(
    "body", [{"width": None}, {"steps": None}, {"batch_size": 0}, {"n_iter": -1}, {"prompt": None}]
)
def test_what_validation_lets_through_crashes_later(webui: WebUI, body: dict[str, Any]) -> None:
    response = webui.call("POST", "txt2img", SMALL | body)
    assert response.status_code == 500
    assert list(response.json()) == ["error", "detail", "body", "errors"]
    assert response.json()["detail"] == ""
    assert response.json()["error"] in ("TypeError", "IndexError", "AssertionError")
    assert webui.progress()["state"]["job_count"] == 0


@pytest.mark.parametrize(
    "body",
    [
        {"width": 100_000, "height": 100_000},
        {"width": 4096, "height": 4096, "batch_size": 5},
        {"width": 512, "height": 512, "n_iter": 2_000_000_000},
        {"width": 8, "height": 8, "n_iter": 1_000_000},
        {"width": 512, "height": 512, "enable_hr": True, "hr_scale": 1000, "denoising_strength": 0.5},
    ],
)
def test_what_would_take_absurd_memory_is_out_of_memory(webui: WebUI, body: dict[str, Any]) -> None:
    response = webui.call("POST", "txt2img", {"steps": 1} | body)
    assert response.status_code == 500
    answer = response.json()
    assert (answer["error"], answer["detail"], answer["body"]) == ("OutOfMemoryError", "", "")
    assert answer["errors"].startswith("CUDA out of memory")


@pytest.mark.parametrize("body", [{"script_name": "x"}, {"alwayson_scripts": {"x": {"args": []}}}])
def test_an_unknown_script_is_a_422_of_the_other_shape(webui: WebUI, body: dict[str, Any]) -> None:
    response = webui.call("POST", "txt2img", SMALL | body)
    expected = {"error": "HTTPException", "detail": "Script 'x' not found", "body": "", "errors": ""}
    assert (response.status_code, response.json()) == (422, expected)


def test_a_known_script_is_taken_in_any_case_and_without_arguments(webui: WebUI) -> None:
    webui.post("txt2img", SMALL | {"alwayson_scripts": {"Refiner": {}, "seed": {"args": [1, 2, 3, 4, 5, 6, 7, 8]}}})


def test_paths_and_methods_that_are_not_there(webui: WebUI) -> None:
    missing = webui.call("GET", "no-such-route")
    assert (missing.status_code, missing.json()) == (404, {"detail": "Not Found"})
    for method, name in (("GET", "txt2img"), ("POST", "samplers"), ("DELETE", "options"), ("OPTIONS", "samplers")):
        wrong = webui.call(method, name)
        assert (wrong.status_code, wrong.json()) == (405, {"detail": "Method Not Allowed"})
    head = webui.call("HEAD", "samplers")
    assert (head.status_code, head.content) == (405, b"")


def test_a_slash_too_many_is_sent_to_the_bare_path(webui: WebUI) -> None:
    response = webui.call("GET", "progress/", params={"skip_current_image": "true"})
    expected = f"{webui.url}/sdapi/v1/progress?skip_current_image=true"
    assert (response.status_code, response.headers["Location"]) == (307, expected)
    assert webui.call("POST", "txt2img/").status_code == 307
    assert webui.call("GET", "no-such-route/").status_code == 404


def test_a_query_that_does_not_fit_is_a_422(webui: WebUI) -> None:
    response = webui.call("GET", "progress", params={"skip_current_image": "perhaps"})
    (item,) = response.json()["detail"]
    assert (response.status_code, item["loc"], item["type"]) == (
        422,
        ["query", "skip_current_image"],
        "type_error.bool",
    )


@pytest.mark.parametrize("name", ["samplers", "no-such-route", "txt2img"])
def test_every_answer_tells_how_long_it_took(webui: WebUI, name: str) -> None:
    assert 0 <= float(webui.call("GET", name).headers["X-Process-Time"]) < 5


def test_bodies_from_1000_bytes_on_are_compressed_for_those_who_accept_it(webui: WebUI) -> None:
    def raw(name: str, accept: str) -> tuple[bytes, str | None]:
        url = f"{webui.url}/sdapi/v1/{name}"
        with requests.get(url, headers={"Accept-Encoding": accept}, stream=True, timeout=10) as response:
            return response.raw.read(), response.headers.get("Content-Encoding")

    plain, encoding = raw("samplers", "identity")
    assert encoding is None
    assert len(plain) >= 1000
    packed, encoding = raw("samplers", "gzip, deflate")
    assert encoding == "gzip"
    assert gzip.decompress(packed) == plain
    assert raw("face-restorers", "gzip")[1] is None
