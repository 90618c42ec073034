"""Images from ComfyUI through a whole graycat: web, broker, a Celery worker that starts the engine (its double)."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.images import ANNA, BERT, PATIENCE_S, ImageStack, Picture
from tests.support.processes import eventually
from tests.support.stack import Client, running

DOUBLE = "tests.fakes.comfyui"
COMMAND = f"{sys.executable} -m {DOUBLE} --port {{port}} --preview-method auto --step-s 0.02"
TINTED: dict[str, Any] = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "mine.png"}, "_meta": {"title": "input:picture"}},
    "2": {
        "class_type": "OperatorTint",
        "inputs": {"image": ["1", 0], "gain": 1.0, "bits": 4, "inverted": False, "style": "plain", "note": ""},
        "_meta": {"title": "input:inverted=inverted, bits=bits"},
    },
    "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "mine"}},
}
FOX: dict[str, Any] = {"prompt": "a fox", "width": 64, "height": 64, "steps": 5}


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImageStack]:
    home = tmp_path_factory.mktemp("comfyui")
    (home / "workflows").mkdir()
    (home / "workflows" / "tinted.json").write_text(json.dumps(TINTED))
    env = {
        "SD_STARTUP_COMMAND": "",
        "COMFYUI_STARTUP_COMMAND": COMMAND,
        "GRAYCAT_COMFYUI_WORKFLOWS": str(home / "workflows"),
    }
    with running(ImageStack(home, env=env)) as started:
        yield started


@pytest.fixture(scope="module")
def anna(stack: ImageStack) -> Client:
    return stack.caller(ANNA)


def task_of(anna: Client, kind: str, given: dict[str, Any], **fields: Any) -> Any:
    response = anna.post("/tasks", {"kind": kind, "input": given, **fields})
    assert response.status_code == 202, response.text
    return response.json()


def end_of(anna: Client, task: Any) -> Any:
    return anna.get(f"/tasks/{task['id']}", params={"wait": 50}).json()


def test_webuiapi_s_client_gets_images(stack: ImageStack) -> None:
    api = stack.webuiapi(ANNA)
    made = api.txt2img(prompt="a fox", width=64, height=64, steps=5, seed=7, n_iter=2, sampler_name="DPM++ 2M")
    assert [image.size for image in made.images] == [(64, 64)] * 2
    assert made.info["all_seeds"] == [7, 8]
    again = api.img2img(images=[made.image], prompt="a fox", width=64, height=64, steps=5)
    assert again.image.size == (64, 64)
    assert "Euler a" in [sampler["name"] for sampler in api.get_samplers()]
    assert [model["title"] for model in api.get_sd_models()]


def test_openai_s_route_and_generate_image(anna: Client) -> None:
    made = anna.post("/v1/images/generations", {"prompt": "a fox", "size": "64x96"}).json()
    assert Picture.of(made["data"][0]["b64_json"]).image.size == (64, 96)
    single = anna.post("/generate-image", FOX | {"seed": 3}).json()
    assert single["info"]["seed"] == 3
    refused = anna.post("/sdapi/v1/txt2img", FOX | {"enable_hr": True})
    assert (refused.status_code, "enable_hr" in refused.text) == (400, True)


def test_an_operator_s_workflow_is_a_kind_of_task(anna: Client) -> None:
    (listed,) = anna.get("/workflows").json()["workflows"]
    assert (listed["kind"], listed["input"]["required"]) == ("sd.workflow/tinted", ["picture"])
    picture = anna.post("/generate-image", FOX).json()["image_base64"]
    task = end_of(anna, task_of(anna, listed["kind"], {"picture": picture, "inverted": True}))
    assert (task["kind"], task["state"]) == ("sd.workflow/tinted", "succeeded")
    assert Picture.of(anna.get(task["result"]["images"][0]["url"]).content).image.size == (64, 64)
    refused = anna.post("/tasks", {"kind": listed["kind"], "input": {"picture": picture, "bits": 99}})
    assert (refused.status_code, "input.bits" in refused.text) == (400, True)


def test_progress_preview_and_an_interrupt_are_the_caller_s_own(stack: ImageStack, anna: Client) -> None:
    task = task_of(anna, "sd.txt2img", FOX | {"steps": 150, "n_iter": 4})
    progress = "/sdapi/v1/progress"
    eventually(lambda: anna.get(progress).json()["current_image"], PATIENCE_S)
    assert 0 < anna.get(progress).json()["progress"] < 1
    assert stack.caller(BERT).get(progress).json()["progress"] == 0
    anna.post("/sdapi/v1/interrupt")
    ended = end_of(anna, task)
    assert (ended["state"], json.loads(ended["partial_result"]["info"])["partial"]) == ("cancelled", True)


def test_an_engine_that_is_killed_in_a_render_makes_it_once_more(stack: ImageStack, anna: Client) -> None:
    task = task_of(anna, "sd.txt2img", FOX | {"steps": 100, "seed": 5})
    eventually(lambda: anna.get(f"/tasks/{task['id']}").json().get("progress"), PATIENCE_S)
    pid = stack._pid_of(f" -m {DOUBLE} ")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    ended = end_of(anna, task)
    assert (ended["state"], ended["attempt"], len(ended["result"]["images"])) == ("succeeded", 2, 1)
    assert len(stack.stored(ended["id"])) == 2


def test_a_batch_has_its_images_and_their_seeds(anna: Client) -> None:
    small = {"width": 64, "height": 64, "steps": 3}
    created = anna.post("/batches", {"name": "foxes", "items": ["a fox", "a cat"], "defaults": small})
    assert created.status_code == 201, created.text
    path = f"/batches/{created.json()['id']}"
    ended = eventually(lambda: state_in(anna, path, ("succeeded", "failed")), PATIENCE_S)
    assert ended == "succeeded"


def state_in(anna: Client, path: str, states: tuple[str, ...]) -> str:
    state = str(anna.get(path).json()["state"])
    return state if state in states else ""
