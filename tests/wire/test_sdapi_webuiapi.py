"""The client that others use, webuiapi, drives the placeholder."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import webuiapi
from PIL import Image

from tests.support.processes import eventually
from tests.support.webui_wire import PATIENCE_S, WebUI


@pytest.fixture
def api(webui: WebUI) -> Iterator[Any]:
    yield from client_of(webui)


@pytest.fixture
def slow_api(slow_webui: WebUI) -> Iterator[Any]:
    yield from client_of(slow_webui)


def client_of(webui: WebUI) -> Iterator[Any]:
    client = webuiapi.WebUIApi(port=webui.port)
    yield client
    client.session.close()


def test_txt2img(api: Any) -> None:
    result = api.txt2img(prompt="a fox", negative_prompt="rain", seed=3, width=64, height=96)
    assert result.image.size == (64, 96)
    assert (result.info["seed"], result.info["sampler_name"], result.info["steps"]) == (3, "Euler a", 20)
    assert result.parameters["prompt"] == "a fox"
    assert result.image.info["parameters"] == result.info["infotexts"][0]


def test_batches(api: Any) -> None:
    result = api.txt2img(prompt="a fox", seed=3, width=64, height=64, batch_size=2, n_iter=2)
    assert len(result.images) == 4
    assert result.info["all_seeds"] == [3, 4, 5, 6]


def test_hires(api: Any) -> None:
    assert api.txt2img(width=64, height=64, enable_hr=True).image.size == (128, 128)


def test_img2img_with_and_without_a_mask(api: Any) -> None:
    image = Image.new("RGB", (64, 64), "red")
    plain = api.img2img(images=[image], prompt="a fox", seed=3, width=64, height=64)
    masked = api.img2img(images=[image], prompt="a fox", mask_image=Image.new("L", (64, 64), 0), width=64, height=64)
    assert plain.image.size == masked.image.size == (64, 64)
    assert plain.parameters["init_images"] is None


def test_png_info(api: Any) -> None:
    made = api.txt2img(prompt="a fox", width=64, height=64)
    assert api.png_info(made.image).info == made.info["infotexts"][0]


def test_extras(api: Any) -> None:
    image = Image.new("RGB", (20, 10), "red")
    single = api.extra_single_image(image, upscaler_1=webuiapi.Upscaler.Lanczos, upscaling_resize=1.5)
    assert single.image.size == (30, 15)
    batch = api.extra_batch_images([image, image], upscaler_1=webuiapi.Upscaler.Nearest)
    assert [upscaled.size for upscaled in batch.images] == [(40, 20), (40, 20)]


def test_interrogate(api: Any) -> None:
    assert "placeholder" in api.interrogate(Image.new("RGB", (8, 8))).info


def test_lists(api: Any) -> None:
    assert "placeholder" in api.util_get_model_names()[0]
    assert "Euler a" in [sampler["name"] for sampler in api.get_samplers()]
    assert "karras" in [scheduler["name"] for scheduler in api.get_schedulers()]
    assert "Lanczos" in api.util_get_sampler_names() + [upscaler["name"] for upscaler in api.get_upscalers()]
    for name in ("latent_upscale_modes", "sd_vae", "loras", "hypernetworks", "face_restorers", "realesrgan_models"):
        assert isinstance(getattr(api, f"get_{name}")(), list)
    assert isinstance(api.get_prompt_styles(), list)
    assert set(api.get_scripts()) == {"txt2img", "img2img"}
    assert set(api.get_embeddings()) == {"loaded", "skipped"}
    assert set(api.get_memory()) == {"ram", "cuda"}
    assert api.get_cmd_flags()["api"] is True
    assert api.refresh_checkpoints() is None


def test_options(api: Any) -> None:
    api.set_options({"jpeg_quality": 75})
    assert api.get_options()["jpeg_quality"] == 75
    api.set_options({"jpeg_quality": 80})
    api.util_set_model("placeholder")
    assert api.util_get_current_model().startswith("placeholder")
    api.util_wait_for_ready()


def test_progress_and_interrupt(slow_api: Any) -> None:
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(slow_api.txt2img, width=64, height=64, steps=200)
        eventually(lambda: slow_api.get_progress()["progress"] > 0.05, PATIENCE_S, 0.01)
        slow_api.interrupt()
        assert len(running.result().images) == 1
    assert slow_api.get_progress()["progress"] == 0
    slow_api.skip()
