from __future__ import annotations

import json
from typing import Any

import pytest
from PIL import Image

from graycat.engines.placeholder import bodies, imagefiles
from graycat.engines.placeholder.errors import HTTPException
from graycat.engines.placeholder.renderer import Renderer
from graycat.engines.placeholder.schema import model

SMALL = {"width": 64, "height": 64, "steps": 2}


@pytest.fixture
def renderer() -> Renderer:
    return Renderer(0)


def txt2img(**given: Any) -> tuple[dict[str, Any], set[str]]:
    return model(bodies.TXT2IMG)(SMALL | given), set(SMALL | given)


def red() -> str:
    return imagefiles.encode(Image.new("RGB", (16, 16), "red"), "png", 80)


def test_the_echo_is_what_was_asked_for(renderer: Renderer) -> None:
    body = renderer.txt2img(*txt2img(prompt="p"))
    assert body["parameters"] == txt2img(prompt="p")[0]
    assert json.loads(body["info"])["prompt"] == "p"


def test_the_settings_of_a_request_end_before_its_images_are_encoded(renderer: Renderer) -> None:
    body = renderer.txt2img(*txt2img(override_settings={"samples_format": "jpg"}))
    assert imagefiles.decode(body["images"][0]).format == "PNG"
    kept = txt2img(override_settings={"samples_format": "jpg"}, override_settings_restore_afterwards=False)
    assert imagefiles.decode(renderer.txt2img(*kept)["images"][0]).format == "JPEG"


def test_images_are_blanked_in_the_echo_and_used_in_the_work(renderer: Renderer) -> None:
    fields = model(bodies.IMG2IMG)(SMALL | {"init_images": [red()], "mask": red()})
    body = renderer.img2img(fields, set())
    assert (body["parameters"]["init_images"], body["parameters"]["mask"]) == (None, None)
    assert len(body["images"]) == 1


def test_a_crash_frees_the_lock_and_the_settings(renderer: Renderer) -> None:
    with pytest.raises(TypeError):
        renderer.txt2img(*txt2img(steps=None, override_settings={"jpeg_quality": 1}))
    assert renderer.options["jpeg_quality"] == 80
    assert len(renderer.txt2img(*txt2img())["images"]) == 1


def test_unknown_scripts_are_refused_before_the_queue(renderer: Renderer) -> None:
    with pytest.raises(HTTPException) as caught:
        renderer.txt2img(*txt2img(alwayson_scripts={"seed": {}, "ControlNet": {}}))
    assert (caught.value.status, caught.value.detail) == (422, "Script 'ControlNet' not found")


def test_png_info_of_our_own(renderer: Renderer) -> None:
    made = renderer.txt2img(*txt2img(prompt="p", seed=1))
    read = renderer.png_info({"image": made["images"][0]})
    assert read["info"] == json.loads(made["info"])["infotexts"][0]
    assert read["parameters"]["Model"] == "placeholder"


def test_upscaling_describes_what_it_did(renderer: Renderer) -> None:
    body = renderer.extra_single(model(bodies.EXTRA_SINGLE)({"image": red(), "upscaler_1": "Nearest"}))
    assert body["html_info"] == "<p>Postprocess upscale by: 2, Postprocess upscaler: Nearest</p>"
    assert imagefiles.decode(body["image"]).size == (32, 32)
    files = [{"data": red(), "name": "a"}]
    batch = renderer.extra_batch(model(bodies.EXTRA_BATCH)({"imageList": files}))
    assert len(batch["images"]) == 1


def test_interrogate_says_that_it_cannot(renderer: Renderer) -> None:
    assert "placeholder" in renderer.interrogate({"image": red(), "model": "clip"})["caption"]
    with pytest.raises(HTTPException):
        renderer.interrogate({"image": red(), "model": "x"})


def test_progress_of_nothing(renderer: Renderer) -> None:
    body = renderer.progress(skip_current_image=False)
    assert (body["progress"], body["current_image"], body["state"]["job_timestamp"]) == (0.0, None, "0")
