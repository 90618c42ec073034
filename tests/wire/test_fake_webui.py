"""The test double: other servers' manners, faults, credentials, slow starts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests

from tests.support.processes import eventually
from tests.support.webui_wire import DOUBLE, PATIENCE_S, WebUI, image_of, red, running

SMALL = {"prompt": "a fox", "width": 64, "height": 64, "steps": 1}


def double(*options: str) -> Iterator[WebUI]:
    with running(DOUBLE, "--step-s", "0", *options) as started:
        yield started


@pytest.fixture(scope="module")
def forge() -> Iterator[WebUI]:
    yield from double("--personality", "forge")


@pytest.fixture(scope="module")
def sdnext() -> Iterator[WebUI]:
    yield from double("--personality", "sdnext")


@pytest.fixture(scope="module")
def sd_server() -> Iterator[WebUI]:
    yield from double("--personality", "sd-server")


def test_forge_tells_errors_in_detail_alone(forge: WebUI) -> None:
    assert forge.call("POST", "img2img", SMALL).json() == {"detail": "Init image not found"}
    assert forge.call("GET", "no-such").json() == {"detail": "Not Found"}
    crash = forge.call("POST", "txt2img", SMALL | {"width": None})
    assert (crash.status_code, list(crash.json())) == (500, ["error", "detail", "body", "message"])


@pytest.mark.parametrize(
    ("field", "sent", "kind"),
    [("steps", "x", "int_parsing"), ("steps", 2.7, "int_from_float"), ("prompt", 5, "string_type")],
)
def test_forge_validates_with_pydantic_2(forge: WebUI, field: str, sent: object, kind: str) -> None:
    response = forge.call("POST", "txt2img", SMALL | {field: sent})
    (item,) = response.json()["detail"]
    assert (response.status_code, list(item)) == (422, ["type", "loc", "msg", "input", "url"])
    assert (item["type"], item["loc"], item["input"]) == (kind, ["body", field], sent)


def test_forge_has_modules_and_fields_of_its_own(forge: WebUI) -> None:
    assert forge.call("GET", "sd-vae").status_code == 404
    assert forge.get("sd-modules") == []
    parameters = forge.post("txt2img", SMALL)["parameters"]
    assert (parameters["distilled_cfg_scale"], parameters["hr_cfg"]) == (3.5, 1.0)
    assert {True} == {value for item in forge.get("samplers") for value in item["options"].values()}


@pytest.mark.parametrize("name", ["interrupt", "skip", "refresh-checkpoints", "refresh-vae", "unload-checkpoint"])
def test_sdnext_answers_control_calls_with_nothing(sdnext: WebUI, name: str) -> None:
    response = sdnext.call("POST", name)
    assert (response.status_code, response.content) == (204, b"")


def test_sdnext_lists_differ(sdnext: WebUI) -> None:
    assert sdnext.get("embeddings") == {"loaded": [], "skipped": []}
    assert list(sdnext.get("samplers")[0]) == ["name", "options"]
    assert list(sdnext.get("schedulers")[0]) == ["name", "cls", "options"]
    for name in ("hypernetworks", "realesrgan-models", "latent-upscale-modes", "/internal/ping"):
        assert sdnext.call("GET", name).status_code == 404
    assert sdnext.post("options", jpeg_quality=80) == {"updated": [{"jpeg_quality": True}]}


def test_sdnext_generates_by_its_own_defaults(sdnext: WebUI) -> None:
    answer = sdnext.post("txt2img", prompt="a fox", send_images=True)
    parameters = {name: answer["parameters"][name] for name in ("steps", "width", "cfg_scale", "sampler_name")}
    assert parameters == {"steps": 20, "width": 1024, "cfg_scale": 6.0, "sampler_name": "Default"}
    assert image_of(answer["images"][0]).size == (1024, 1024)
    assert not {"sd_model_name", "version"} & set(json.loads(answer["info"]))
    assert sdnext.post("txt2img", SMALL | {"send_images": False})["info"] == ""


def test_sdnext_refuses_in_its_own_way(sdnext: WebUI) -> None:
    unknown = sdnext.call("POST", "txt2img", SMALL | {"sampler_name": "no such"})
    assert (unknown.status_code, unknown.json()["detail"], unknown.json()["code"]) == (404, "Sampler not found", 404)
    assert sdnext.call("POST", "txt2img", SMALL | {"sampler_name": "k_EULER_a"}).status_code == 200
    missing = sdnext.call("POST", "img2img", SMALL)
    assert (missing.status_code, list(missing.json())) == (400, ["error"])
    crash = sdnext.call("POST", "txt2img", SMALL | {"steps": None})
    assert (crash.status_code, type(crash.json())) == (500, str)


def test_sdnext_progress(sdnext: WebUI) -> None:
    progress = sdnext.progress()
    assert list(progress)[0] == "id"
    assert "stopping_generation" not in progress["state"]


def test_sd_server_has_few_routes(sd_server: WebUI) -> None:
    for method, name in (("GET", "progress"), ("POST", "interrupt"), ("POST", "png-info"), ("GET", "sd-vae")):
        assert sd_server.call(method, name).status_code == 404
    assert sd_server.call("GET", "/").status_code == 200
    assert sd_server.get("samplers")[0] == {"name": "default", "aliases": ["default"], "options": {}}
    assert sd_server.get("sd-models")[0]["hash"] == "8888888888"
    assert list(sd_server.get("schedulers")[0]) == ["name", "label"]
    assert set(sd_server.get("options")) == {"samples_format", "sd_model_checkpoint"}


def test_sd_server_makes_one_batch_and_no_info(sd_server: WebUI) -> None:
    body = SMALL | {"batch_size": 2, "n_iter": 3, "seed": 5, "made_up": 1}
    answer = sd_server.post("txt2img", body)
    assert (answer["parameters"], answer["info"]) == (body, "")
    images = [image_of(image) for image in answer["images"]]
    assert ["Seed: 5" in images[0].info["parameters"], "Seed: 6" in images[1].info["parameters"]] == [True, True]
    assert len(images) == 2
    assert len(sd_server.post("img2img", SMALL)["images"]) == 1
    assert len(sd_server.post("img2img", SMALL | {"init_images": [red()]})["images"]) == 1


def test_sd_server_replaces_seeds_samplers_and_steps(sd_server: WebUI) -> None:
    def made(**fields: Any) -> list[str]:
        images = sd_server.post("txt2img", SMALL | fields)["images"]
        return [image_of(image).info["parameters"] for image in images]

    assert "Seed: 2147483647" in made(seed=2**31 - 1)[0]
    assert f"Seed: {2**31}" not in made(seed=2**31)[0]
    assert "Seed: 5" in made(seed=2**32 + 5)[0]
    assert made(seed=7, sampler_name="nothing") == made(seed=7, sampler_name="default")
    assert ("Steps: 100" in made(steps=120)[0], len(made(batch_size=9))) == (True, 8)


def test_sd_server_errors(sd_server: WebUI) -> None:
    empty = sd_server.call("POST", "txt2img", {"steps": 1})
    assert (empty.status_code, empty.json()) == (400, {"error": "prompt required"})
    wrong = ('{"prompt": "a", "steps": null}', '{"prompt": "a", "width": "64"}', '{"prompt": "a", "seed": null}')
    for data in (b"{", *(text.encode() for text in wrong)):
        broken = sd_server.call("POST", "txt2img", data=data)
        assert (broken.status_code, broken.json()["error"]) == (500, "server_error")


def test_credentials_are_asked_for_before_the_body_is_looked_at() -> None:
    with running(DOUBLE, "--auth", "ann:secret") as webui:
        bare = webui.call("POST", "txt2img", {"steps": "x"})
        expected = {"error": "HTTPException", "detail": "Not authenticated", "body": "", "errors": ""}
        assert (bare.status_code, bare.json()) == (401, expected)
        assert "WWW-Authenticate" not in bare.headers
        wrong = webui.call("GET", "progress", auth=("ann", "guess"))
        assert (wrong.status_code, wrong.json()["detail"]) == (401, "Incorrect username or password")
        assert webui.call("GET", "progress", auth=("ann", "secret")).status_code == 200
        for name in ("loras", "/internal/ping"):
            assert webui.call("GET", name).status_code == 200


def test_before_it_is_ready_every_route_is_missing() -> None:
    with running(DOUBLE, "--loading", "1") as webui:
        early = webui.call("GET", "progress")
        assert (early.status_code, early.json()) == (404, {"detail": "Not Found"})
        eventually(lambda: webui.call("GET", "progress").status_code == 200, PATIENCE_S)


def fails(mode: str) -> Any:
    return running(DOUBLE, "--step-s", "0", "--fail", mode)


def test_out_of_memory() -> None:
    with fails("oom") as webui:
        response = webui.call("POST", "txt2img", SMALL)
        assert (response.status_code, response.json()["error"]) == (500, "OutOfMemoryError")
        assert webui.progress()["state"]["job_count"] == 0


def test_a_dropped_connection() -> None:
    with fails("drop") as webui:
        with pytest.raises(requests.ConnectionError):
            webui.call("POST", "txt2img", SMALL)
        assert webui.progress()["state"]["job_count"] == 0
        assert "Traceback" not in webui.output.text


def test_a_generation_that_hangs_keeps_its_place() -> None:
    with ThreadPoolExecutor(1) as pool, fails("hang") as webui:
        hanging = pool.submit(webui.call, "POST", "txt2img", SMALL)
        eventually(lambda: webui.progress()["state"]["job"], PATIENCE_S)
        webui.post("interrupt")
        assert webui.progress()["state"]["interrupted"] is True
        assert webui.progress()["state"]["job"] == "scripts_txt2img"
        assert not hanging.done()
