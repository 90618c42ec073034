"""webuiapi, the client that others use, drives graycat unchanged, and gets what it would get from the engine itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import webuiapi
from PIL import Image

from tests.support.images import ADMIN, ANNA, PATIENCE_S, QUICK, SLOW, ImageStack, Picture
from tests.support.processes import eventually

#: Without a subseed the engine draws one by lot.
FOX: dict[str, Any] = QUICK | {"prompt": "a fox", "negative_prompt": "rain", "seed": 3, "subseed": 5}
RED = Image.new("RGB", (64, 64), "red")
HALF = Image.new("L", (64, 64), 0)
HALF.paste(255, (0, 0, 64, 32))

CALLS: dict[str, Callable[[Any], Any]] = {
    "txt2img": lambda api: api.txt2img(**FOX),
    "batches": lambda api: api.txt2img(**FOX, batch_size=2, n_iter=2),
    "hires": lambda api: api.txt2img(**FOX, enable_hr=True, hr_second_pass_steps=2),
    "jpeg": lambda api: api.txt2img(**FOX, override_settings={"samples_format": "jpg"}),
    "no images": lambda api: api.txt2img(**FOX, send_images=False),
    "img2img": lambda api: api.img2img(images=[RED], **FOX),
    "inpaint": lambda api: api.img2img(images=[RED], mask_image=HALF, **FOX),
    "upscale": lambda api: api.extra_single_image(RED, upscaler_1=webuiapi.Upscaler.Lanczos, upscaling_resize=1.5),
    "upscale batch": lambda api: api.extra_batch_images([RED, RED], upscaler_1=webuiapi.Upscaler.Nearest),
    "png-info": lambda api: api.png_info(api.txt2img(**FOX).image),
    "png-info of nothing": lambda api: api.png_info(RED),
    "interrogate": lambda api: api.interrogate(RED),
}
LISTS = (
    *("samplers", "schedulers", "upscalers", "latent_upscale_modes", "sd_vae", "loras", "sd_models", "hypernetworks"),
    *("face_restorers", "realesrgan_models", "prompt_styles", "scripts", "embeddings"),
)


@pytest.fixture(scope="module")
def api(studio: ImageStack) -> Any:
    return studio.webuiapi(ANNA)


@pytest.fixture(scope="module")
def admin(studio: ImageStack) -> Any:
    return studio.webuiapi(ADMIN)


@pytest.fixture(scope="module")
def bare(studio: ImageStack) -> Any:
    return studio.webuiapi()


@pytest.fixture
def slow(studio: ImageStack, api: Any, bare: Any) -> Iterator[Any]:
    """Yield the result-to-be of a call that takes half a minute, once its engine has told how far it is."""
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(api.txt2img, prompt="a long story", **SLOW)
        eventually(lambda: api.get_progress()["progress"] > 0.01, PATIENCE_S)
        yield running
        api.interrupt()
        running.result(PATIENCE_S)


def undated(info: Any) -> Any:
    """Return an info without the second in which it was made."""
    return {key: value for key, value in info.items() if key != "job_timestamp"} if isinstance(info, dict) else info


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_a_call_brings_what_the_engine_itself_gives(api: Any, bare: Any, call: Callable[[Any], Any]) -> None:
    ours, theirs = call(api), call(bare)
    for name in ("images", "image"):
        assert ours.json.get(name) == theirs.json.get(name)
    assert undated(ours.info) == undated(theirs.info)
    assert ours.parameters == theirs.parameters
    assert ours.json.keys() == theirs.json.keys()


def test_the_images_of_a_batch_come_in_their_order(api: Any) -> None:
    result = api.txt2img(**FOX, batch_size=2, n_iter=2)
    assert result.info["all_seeds"] == [3, 4, 5, 6]
    assert [image.info["parameters"] for image in result.images] == result.info["infotexts"]


@pytest.mark.parametrize("name", LISTS)
def test_a_list_is_the_engine_s(api: Any, bare: Any, name: str) -> None:
    assert getattr(api, f"get_{name}")() == getattr(bare, f"get_{name}")()


def test_an_idle_engine_s_progress_is_zero(api: Any) -> None:
    api.util_wait_for_ready()
    progress = api.get_progress()
    assert (progress["progress"], progress["state"]["job_count"], progress["current_image"]) == (0, 0, None)


def test_progress_grows_and_has_a_preview(api: Any, slow: Any) -> None:
    first = api.get_progress()
    assert (first["state"]["sampling_steps"], first["state"]["job_count"]) == (150, 8)
    eventually(lambda: api.get_progress()["progress"] > first["progress"], PATIENCE_S)
    preview = Picture.of(eventually(lambda: api.get_progress()["current_image"], PATIENCE_S))
    assert preview.image.width < 64
    assert not slow.done()


def test_an_interrupt_brings_the_images_there_are_and_says_so(api: Any, slow: Any) -> None:
    api.interrupt()
    result = slow.result(PATIENCE_S)
    assert 1 <= len(result.images) < 8
    assert result.info["partial"] is True
    assert api.get_progress()["state"]["job_count"] == 0


def test_a_skip_leaves_out_the_rest_of_one_batch(api: Any, bare: Any, slow: Any) -> None:
    api.skip()
    reached: list[int] = []

    def next_batch() -> bool:
        state = bare.get_progress()["state"]
        reached.append(state["sampling_step"] if state["job_no"] == 0 else 0)
        return bool(state["job_no"])

    eventually(next_batch, PATIENCE_S, 0.02)
    assert max(reached) < 140
    assert not slow.done()


def test_options_are_read_by_all_and_set_by_admins(api: Any, admin: Any, bare: Any) -> None:
    admin.set_options({"jpeg_quality": 75})
    assert api.get_options()["jpeg_quality"] == bare.get_options()["jpeg_quality"] == 75
    admin.set_options({"jpeg_quality": 80})
    assert api.get_options() == bare.get_options()


def test_a_model_is_chosen_as_the_client_does_it(api: Any, admin: Any) -> None:
    admin.refresh_checkpoints()
    admin.util_set_model("placeholder")
    assert api.util_get_current_model() == admin.util_get_model_names()[0]
    assert "placeholder" in api.util_get_current_model()


def test_a_wrong_password_is_an_error_that_the_client_raises(studio: ImageStack, api: Any) -> None:
    stranger = studio.webuiapi(ANNA)
    stranger.set_auth("any name", "a guess")
    with pytest.raises(RuntimeError) as caught:
        stranger.txt2img(**FOX)
    assert caught.value.args[0] == 401
