"""Images without the WebUI's wire: /generate-image, OpenAI's own client, and images fetched by their address."""

from __future__ import annotations

import time
from collections.abc import Iterator
from io import BytesIO
from typing import Any

import openai
import pytest
from PIL import Image

from tests.support.images import ANNA, BERT, PATIENCE_S, QUICK, ImageStack, Picture
from tests.support.processes import eventually
from tests.support.stack import Client


@pytest.fixture(scope="module")
def anna(studio: ImageStack) -> Client:
    return studio.caller(ANNA)


@pytest.fixture(scope="module")
def client(studio: ImageStack) -> Iterator[Any]:
    with openai.OpenAI(base_url=f"{studio.url}/v1", api_key=studio.token, max_retries=0, timeout=PATIENCE_S) as client:
        yield client


def file_of(image: Image.Image) -> tuple[str, bytes, str]:
    """Return an image as a file of a form."""
    file = BytesIO()
    image.save(file, "PNG")
    return "image.png", file.getvalue(), "image/png"


def test_generate_image_answers_one_image_and_what_is_known_of_it(anna: Client) -> None:
    reply = anna.post("/generate-image", {"prompt": "a fox", "seed": 3, "width": 64, "height": 96, "n_iter": 5}).json()
    picture = Picture.of(reply["image_base64"])
    assert (picture.image.size, picture.prompt) == ((64, 96), "a fox")
    assert (reply["info"]["seed"], reply["info"]["steps"], len(reply["info"]["infotexts"])) == (3, 20, 1)
    kept = anna.get(f"/tasks/{reply['task_id']}/images/0")
    assert kept.content == picture.data


@pytest.mark.parametrize("body", [{}, {"prompt": None}, {"prompt": ["a fox"]}], ids=repr)
def test_generate_image_needs_a_prompt(anna: Client, body: Any) -> None:
    answer = anna.post("/generate-image", body)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


def test_openai_s_client_gets_images_as_base64(client: Any) -> None:
    before = int(time.time())
    answer = client.images.generate(prompt="a fox", n=2, size="64x96")
    pictures = [Picture.of(image.b64_json) for image in answer.data]
    assert [(picture.image.size, picture.prompt) for picture in pictures] == [((64, 96), "a fox")] * 2
    assert pictures[0].data != pictures[1].data
    assert before <= answer.created <= time.time()


def test_openai_s_client_gets_images_as_addresses(studio: ImageStack, client: Any) -> None:
    answer = client.images.generate(prompt="a fox", size="64x64", response_format="url")
    (image,) = answer.data
    assert image.url.startswith(f"{studio.url}/tasks/")
    # As a browser opens it: without an API token.
    path = image.url.removeprefix(studio.url)
    stranger = Client(studio.url)
    with stranger.session:
        assert Picture.of(stranger.get(path).content).prompt == "a fox"
        assert stranger.get(path.replace("/images/0", "/images/1")).status_code == 403
        assert stranger.get(path.partition("?")[0]).status_code == 401
    assert studio.caller(BERT).get(path.partition("?")[0]).status_code == 404


@pytest.mark.parametrize("name", ["png", "jpeg", "webp", "avif"])
def test_openai_s_client_gets_the_format_that_it_asks_for(client: Any, anna: Client, name: str) -> None:
    answer = client.images.generate(
        prompt="a fox", size="64x64", output_format=name, extra_body={"seed": 5, "steps": 2}
    )
    picture = Picture.of(answer.data[0].b64_json)
    assert (answer.output_format, picture.image.format) == (name, name.upper())
    if name == "png":
        assert "Steps: 2" in picture.image.info["parameters"]
        assert "Seed: 5" in picture.image.info["parameters"]
    address = client.images.generate(
        prompt="a fox", size="64x64", output_format=name, response_format="url", output_compression=None
    )
    assert (
        Picture.of(anna.get("/tasks/" + address.data[0].url.partition("/tasks/")[2]).content).image.format
        == name.upper()
    )


def test_openai_s_client_sees_an_image_grow(client: Any) -> None:
    events = list(
        client.images.generate(prompt="a fox", size="64x64", stream=True, partial_images=2, extra_body={"steps": 150})
    )
    assert events[-1].type == "image_generation.completed"
    assert Picture.of(events[-1].b64_json).prompt == "a fox"
    partial = events[:-1]
    assert 1 <= len(partial) <= 2
    assert [event.type for event in partial] == ["image_generation.partial_image"] * len(partial)
    assert [event.partial_image_index for event in partial] == list(range(len(partial)))
    for event in partial:
        assert Picture.of(event.b64_json).image.format == event.output_format.upper()
    edited = list(client.images.edit(image=file_of(Image.new("RGB", (64, 64), "red")), prompt="a hat", stream=True))
    assert [event.type for event in edited] == ["image_edit.completed"]


def test_openai_s_client_finds_the_models_of_images(client: Any, anna: Client) -> None:
    (checkpoint,) = anna.get("/sdapi/v1/sd-models").json()
    assert checkpoint["model_name"] in [model.id for model in client.models.list().data]
    answer = client.images.generate(prompt="a fox", size="64x64", model=checkpoint["model_name"])
    assert len(answer.data) == 1
    with pytest.raises(openai.NotFoundError, match="nobody"):
        client.images.generate(prompt="a fox", size="64x64", model="nobody")


def test_openai_s_client_edits_an_image_where_the_mask_is_clear(client: Any) -> None:
    image = Image.new("RGB", (256, 256), "red")
    mask = Image.new("RGBA", (256, 256), (0, 0, 0, 255))
    mask.paste((0, 0, 0, 0), (0, 0, 256, 64))
    answer = client.images.edit(image=file_of(image), mask=file_of(mask), prompt="a hat", response_format="b64_json")
    changed = Picture.of(answer.data[0].b64_json)
    assert (changed.image.size, changed.prompt) == ((256, 256), "a hat")
    assert changed.image.crop((0, 100, 256, 160)).getcolors() == [(256 * 60, (255, 0, 0))]
    assert changed.image.crop((0, 0, 256, 50)).getcolors() != [(256 * 50, (255, 0, 0))]


def test_openai_s_client_edits_a_whole_image_and_gets_its_address(client: Any, anna: Client) -> None:
    image = file_of(Image.new("RGB", (80, 64), "blue"))
    answer = client.images.edit(image=image, prompt="a storm", n=2, response_format="url")
    for found in answer.data:
        path = "/tasks/" + found.url.partition("/tasks/")[2]
        assert Picture.of(anna.get(path).content).image.size == (80, 64)


def test_openai_s_client_raises_its_own_errors(studio: ImageStack, client: Any) -> None:
    asked = studio.asked()
    with pytest.raises(openai.BadRequestError, match="16 at most"):
        client.images.generate(prompt="a fox", n=17)
    with pytest.raises(openai.BadRequestError, match="'size'"):
        client.images.generate(prompt="a fox", size="large")
    with pytest.raises(openai.BadRequestError, match="response_format"):
        client.images.generate(prompt="a fox", response_format="pigeon")
    with pytest.raises(openai.BadRequestError, match="'background'") as refused:
        client.images.generate(prompt="a fox", background="transparent")
    assert refused.value.param == "background"
    images = [file_of(Image.new("RGB", (64, 64), colour)) for colour in ("red", "blue")]
    with pytest.raises(openai.BadRequestError, match="image\\[1\\]"):
        client.images.edit(image=images, prompt="a hat")
    with pytest.raises(openai.BadRequestError, match="damaged"):
        client.images.edit(image=("image.png", b"no image", "image/png"), prompt="a hat")
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="a guess").images.generate(prompt="a fox")
    assert studio.asked() == asked


def test_an_image_is_fetched_once_and_then_known_by_its_tag(anna: Client) -> None:
    task_id = anna.post("/generate-image", QUICK | {"prompt": "a fox"}).json()["task_id"]
    path = f"/tasks/{task_id}/images/0"
    first = anna.get(path)
    assert first.headers["Content-Type"] == "image/png"
    assert first.headers["Cache-Control"] == "private, max-age=3600, immutable"
    again = anna.get(path, headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert anna.get(path, headers={"If-None-Match": '"another"'}).status_code == 200
    for missing in (f"/tasks/{task_id}/images/1", "/tasks/nobody/images/0"):
        assert anna.get(missing).json()["error"]["type"] == "task_not_found"


def test_who_does_not_wait_finds_the_images_by_the_task(anna: Client) -> None:
    body = QUICK | {"prompt": "a fox", "batch_size": 2}
    accepted = anna.post("/sdapi/v1/txt2img", body, headers={"Prefer": "respond-async"})
    task_id = accepted.json()["id"]
    assert (accepted.status_code, accepted.headers["Location"]) == (202, f"/tasks/{task_id}")
    task = eventually(lambda: ended(anna, task_id), PATIENCE_S)
    assert (task["state"], task["status"], task["attempt"]) == ("succeeded", 200, 1)
    urls = [image["url"] for image in task["result"]["images"]]
    assert urls == [f"/tasks/{task_id}/images/0", f"/tasks/{task_id}/images/1"]
    assert [Picture.of(anna.get(url).content).prompt for url in urls] == ["a fox", "a fox"]


def test_generate_image_can_be_left_alone_too(anna: Client) -> None:
    accepted = anna.post("/generate-image", QUICK | {"prompt": "a fox"}, headers={"Prefer": "respond-async"})
    assert accepted.status_code == 202
    task = eventually(lambda: ended(anna, accepted.json()["id"]), PATIENCE_S)
    assert Picture.of(anna.get(task["result"]["images"][0]["url"]).content).prompt == "a fox"


def ended(caller: Client, task_id: str) -> Any:
    """Return a task that has ended; nothing while it has not."""
    task = caller.get(f"/tasks/{task_id}").json()
    return task if "finished_ms" in task else None
