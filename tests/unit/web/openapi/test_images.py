from __future__ import annotations

from typing import Any

import pytest

from graycat.web.compat import webui
from graycat.web.openapi.image_fields import BODIES
from graycat.web.openapi.images import operation

IMAGE_CALLS = [f"sdapi.{kind.name.removeprefix('sd.')}" for kind, _, _ in webui.IMAGE_CALLS.values()]
ADMIN_CALLS = [f"sdapi.{kind.name.removeprefix('sd.')}" for kind, _ in webui.ADMIN_CALLS.values()]
SIMPLE = ["images.generate_image", "images.generations", "images.edits"]
TASK = {"200", "400", "401", "403", "404", "405", "413", "422", "429", "499", "500", "501", "502", "503", "504"}


def schema_of(operation: dict[str, Any]) -> Any:
    (content,) = operation["requestBody"]["content"].values()
    return content["schema"]


@pytest.mark.parametrize("endpoint", [*IMAGE_CALLS, *SIMPLE])
def test_a_render_may_be_asked_for_and_left(endpoint: str) -> None:
    documented = operation(endpoint)
    assert [parameter["name"] for parameter in documented["parameters"]] == ["Prefer"]
    assert set(documented["responses"]) == TASK | {"202"}
    assert schema_of(documented)["properties"]


@pytest.mark.parametrize("endpoint", ADMIN_CALLS)
def test_a_change_of_all_engines_is_for_admins_who_wait(endpoint: str) -> None:
    documented = operation(endpoint)
    assert "parameters" not in documented
    assert set(documented["responses"]) == TASK


def test_a_list_needs_nothing() -> None:
    documented = operation("sdapi.list_samplers")
    assert set(documented["responses"]) == {"200", "401", "403", "405", "500", "503"}
    assert "requestBody" not in documented


def test_png_info_takes_a_body_but_runs_no_task() -> None:
    documented = operation("sdapi.png_info")
    assert set(documented["responses"]) == {"200", "400", "401", "403", "405", "413", "500", "503"}
    assert schema_of(documented)["required"] == ["image"]


def test_a_preview_may_be_left_out_of_the_progress() -> None:
    (parameter,) = operation("sdapi.progress")["parameters"]
    assert (parameter["name"], parameter["in"]) == ("skip_current_image", "query")


def test_the_webui_s_routes_have_its_errors_and_take_a_password() -> None:
    for endpoint, error in (("sdapi.txt2img", "WebuiError"), ("images.generations", "Error")):
        documented = operation(endpoint)
        content = documented["responses"]["400"]["content"]["application/json"]
        assert content["schema"] == {"$ref": f"#/components/schemas/{error}"}
        assert ({"password": []} in documented.get("security", [])) == (endpoint == "sdapi.txt2img")


def test_an_image_may_be_one_that_its_reader_has() -> None:
    responses = operation("task_images.image")["responses"]
    assert set(responses["200"]["content"]) == {"image/png", "image/jpeg", "image/webp", "image/avif"}
    assert "content" not in responses["304"]
    assert {"401", "404"} <= set(responses)
    assert "304" not in operation("task_images.preview")["responses"]


def test_a_file_is_sent_in_a_form() -> None:
    assert list(operation("images.edits")["requestBody"]["content"]) == ["multipart/form-data"]


def test_every_body_belongs_to_a_route(shared_app) -> None:
    assert set(BODIES) <= set(shared_app.view_functions)


@pytest.mark.parametrize("endpoint", ["health.live", "llamacpp.props", "tasks.show"])
def test_of_other_routes_nothing_is_said_here(endpoint: str) -> None:
    assert operation(endpoint) == {}


@pytest.mark.parametrize("endpoint", SIMPLE)
def test_openai_s_routes_may_answer_events(endpoint: str) -> None:
    content = operation(endpoint)["responses"]["200"]["content"]
    assert ("text/event-stream" in content) is (endpoint != "images.generate_image")
