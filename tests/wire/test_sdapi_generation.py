"""txt2img as sdapi documents it: the echo, the info, counts, seeds, files and their texts."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from PIL import Image

from tests.support.webui_wire import WebUI, image_of

SMALL = {"width": 64, "height": 64, "steps": 3}

DEFAULTS = {
    "prompt": "", "negative_prompt": "", "styles": None, "seed": -1, "subseed": -1, "subseed_strength": 0,
    "seed_resize_from_h": -1, "seed_resize_from_w": -1, "sampler_name": None, "scheduler": None, "batch_size": 1,
    "n_iter": 1, "steps": 50, "cfg_scale": 7.0, "width": 512, "height": 512, "restore_faces": None, "tiling": None,
    "do_not_save_samples": False, "do_not_save_grid": False, "eta": None, "denoising_strength": None,
    "s_min_uncond": None, "s_churn": None, "s_tmax": None, "s_tmin": None, "s_noise": None, "override_settings": None,
    "override_settings_restore_afterwards": True, "refiner_checkpoint": None, "refiner_switch_at": None,
    "disable_extra_networks": False, "firstpass_image": None, "comments": None,
}  # fmt: skip
HIRES = {
    "enable_hr": False, "firstphase_width": 0, "firstphase_height": 0, "hr_scale": 2.0, "hr_upscaler": None,
    "hr_second_pass_steps": 0, "hr_resize_x": 0, "hr_resize_y": 0, "hr_checkpoint_name": None,
    "hr_sampler_name": None, "hr_scheduler": None, "hr_prompt": "", "hr_negative_prompt": "",
}  # fmt: skip
LAST: dict[str, Any] = {
    "force_task_id": None, "sampler_index": "Euler", "script_name": None, "script_args": [], "send_images": True,
    "save_images": False, "alwayson_scripts": {}, "infotext": None,
}  # fmt: skip

INFO: dict[str, Any] = {
    "prompt": str, "all_prompts": list, "negative_prompt": str, "all_negative_prompts": list, "seed": int,
    "all_seeds": list, "subseed": int, "all_subseeds": list, "subseed_strength": float, "width": int, "height": int,
    "sampler_name": str, "cfg_scale": float, "steps": int, "batch_size": int, "restore_faces": bool,
    "face_restoration_model": (str, type(None)), "sd_model_name": str, "sd_model_hash": str,
    "sd_vae_name": (str, type(None)), "sd_vae_hash": (str, type(None)), "seed_resize_from_w": int,
    "seed_resize_from_h": int, "denoising_strength": (float, type(None)), "extra_generation_params": dict,
    "index_of_first_image": int, "infotexts": list, "styles": list, "job_timestamp": str, "clip_skip": int,
    "is_using_inpainting_conditioning": bool, "version": (str, type(None)),
}  # fmt: skip


def txt2img(webui: WebUI, **fields: Any) -> tuple[list[Image.Image], dict[str, Any]]:
    """Return the images and the info of a small request."""
    answer = webui.post("txt2img", SMALL | fields)
    return [image_of(image) for image in answer["images"]], json.loads(answer["info"])


def test_the_answer_to_nothing_has_every_default(webui: WebUI) -> None:
    # No field of the request itself may be needed, so none is sent but a key that is ignored.
    answer = webui.post("txt2img", ignored=True)
    assert list(answer) == ["images", "parameters", "info"]
    expected = DEFAULTS | HIRES | LAST
    assert list(answer["parameters"].items()) == list(expected.items())
    assert len(expected) == 55
    (image,) = map(image_of, answer["images"])
    assert (image.format, image.mode, image.size) == ("PNG", "RGB", (512, 512))


def test_the_echo_is_the_request_and_not_the_outcome(webui: WebUI) -> None:
    sent = {"seed": -1, "sampler_name": "no such", "do_not_save_samples": True, "override_settings": {}}
    parameters = webui.post("txt2img", SMALL | sent)["parameters"]
    assert {name: parameters[name] for name in sent} == sent


def test_info_is_a_string_with_every_key(webui: WebUI) -> None:
    info = txt2img(webui, prompt="a fox", negative_prompt="rain", denoising_strength=0.5)[1]
    assert list(info) == list(INFO)
    for key, kind in INFO.items():
        assert isinstance(info[key], kind), (key, info[key])
    assert (info["sd_model_name"], info["sampler_name"]) == ("placeholder", "Euler")
    assert re.fullmatch(r"\d{14}", info["job_timestamp"])
    assert (info["denoising_strength"], info["extra_generation_params"]) == (0.5, {})


def test_images_are_batch_size_times_n_iter_and_seeds_count_up(webui: WebUI) -> None:
    images, info = txt2img(webui, prompt="p", batch_size=2, n_iter=3, seed=7, subseed=100)
    assert info["all_seeds"] == [7, 8, 9, 10, 11, 12]
    assert info["all_subseeds"] == [100, 101, 102, 103, 104, 105]
    assert (info["seed"], info["subseed"], info["batch_size"]) == (7, 100, 2)
    assert info["all_prompts"] == ["p"] * 6
    assert [image.info["parameters"] for image in images] == info["infotexts"]
    assert [re.findall(r"Seed: (\d+)", text) for text in info["infotexts"]] == [[str(s)] for s in range(7, 13)]
    # In order: each is what its seed alone gives.
    assert images[4].tobytes() == txt2img(webui, prompt="p", seed=11)[0][0].tobytes()


def test_a_seed_of_minus_one_is_another_one_each_time(webui: WebUI) -> None:
    seeds = {txt2img(webui)[1]["seed"] for _ in range(5)}
    assert len(seeds) == 5
    assert all(0 <= seed <= 4294967293 for seed in seeds)


def test_with_variation_all_seeds_are_equal(webui: WebUI) -> None:
    images, info = txt2img(webui, seed=7, subseed=1, subseed_strength=0.5, n_iter=3)
    assert (info["all_seeds"], info["all_subseeds"]) == ([7, 7, 7], [1, 2, 3])
    assert "Variation seed: 2, Variation seed strength: 0.5" in info["infotexts"][1]
    assert len({image.tobytes() for image in images}) == 3


def test_the_same_request_gives_the_same_bytes(webui: WebUI, slow_webui: WebUI) -> None:
    body = SMALL | {"prompt": "a fox", "negative_prompt": "rain", "seed": 5, "batch_size": 2}
    first = webui.post("txt2img", body)["images"]
    assert webui.post("txt2img", body)["images"] == first
    assert slow_webui.post("txt2img", body)["images"] == first
    for change in ({"prompt": "b"}, {"negative_prompt": "b"}, {"seed": 6}, {"steps": 4}, {"sampler_name": "Heun"}):
        assert webui.post("txt2img", body | change)["images"][0] != first[0], change


def test_sizes_are_cut_to_a_multiple_of_8_and_told_as_asked(webui: WebUI) -> None:
    images, info = txt2img(webui, width=100, height=77)
    assert images[0].size == (96, 72)
    assert (info["width"], info["height"]) == (100, 77)
    assert "Size: 100x77" in info["infotexts"][0]


def test_the_infotext_has_its_layout(webui: WebUI) -> None:
    fields = {"prompt": "a fox, red", "negative_prompt": "rain: heavy", "seed": 5, "sampler_name": "Euler a"}
    (image,), info = txt2img(webui, **fields, scheduler="karras")
    model = webui.get("sd-models")[0]["hash"]
    assert info["infotexts"] == [
        "a fox, red\nNegative prompt: rain: heavy\n"
        "Steps: 3, Sampler: Euler a, Schedule type: Karras, CFG scale: 7.0, Seed: 5, Size: 64x64, "
        f"Model hash: {model}, Model: placeholder, Version: v1.10.1-placeholder"
    ]
    assert image.info == {"parameters": info["infotexts"][0]}


def test_without_a_negative_prompt_there_is_no_line_for_it(webui: WebUI) -> None:
    text = txt2img(webui, prompt="one\ntwo")[1]["infotexts"][0]
    assert text.splitlines()[:2] == ["one", "two"]
    assert len(text.splitlines()) == 3


def test_a_text_beyond_latin_1_is_kept_whole(webui: WebUI) -> None:
    (image,), info = txt2img(webui, prompt="一只狐狸 🦊")
    assert image.info["parameters"] == info["infotexts"][0]
    assert info["prompt"] == "一只狐狸 🦊"


def test_no_grid_unless_images_are_saved(webui: WebUI) -> None:
    images, info = txt2img(webui, n_iter=4)
    assert (len(images), info["index_of_first_image"], len(info["infotexts"])) == (4, 0, 4)


def test_a_grid_comes_first_when_images_are_saved(webui: WebUI) -> None:
    images, info = txt2img(webui, n_iter=3, seed=1, save_images=True)
    assert [image.size for image in images] == [(128, 128), (64, 64), (64, 64), (64, 64)]
    assert (info["index_of_first_image"], len(info["all_seeds"])) == (1, 3)
    assert len(info["infotexts"]) == 4
    assert info["infotexts"][0] == info["infotexts"][1]
    assert images[0].crop((64, 0, 128, 64)).tobytes() == images[2].tobytes()


@pytest.mark.parametrize(
    ("fields", "count"),
    [({"n_iter": 1}, 1), ({"n_iter": 2, "override_settings": {"return_grid": False}}, 2)],
)
def test_there_is_no_grid_of_one_image_or_where_none_is_wanted(
    webui: WebUI, fields: dict[str, Any], count: int
) -> None:
    images, info = txt2img(webui, save_images=True, **fields)
    assert (len(images), info["index_of_first_image"]) == (count, 0)


def test_images_are_left_out_on_request(webui: WebUI) -> None:
    images, info = txt2img(webui, n_iter=2, send_images=False)
    assert images == []
    assert len(info["infotexts"]) == 2


def test_a_second_pass_makes_the_image_larger(webui: WebUI) -> None:
    hires = {"enable_hr": True, "denoising_strength": 0.7}
    images, info = txt2img(webui, **hires)
    assert images[0].size == (128, 128)
    assert (info["width"], info["height"]) == (64, 64)
    assert "Denoising strength: 0.7, Hires upscale: 2.0, Hires upscaler: Latent" in info["infotexts"][0]
    assert txt2img(webui, **hires, hr_resize_x=96)[0][0].size == (96, 96)
    assert txt2img(webui, **hires, hr_resize_x=96, hr_resize_y=200)[0][0].size == (96, 200)


def test_a_second_pass_needs_a_strength(webui: WebUI) -> None:
    response = webui.call("POST", "txt2img", SMALL | {"enable_hr": True})
    assert (response.status_code, response.json()["error"]) == (500, "TypeError")


@pytest.mark.parametrize(
    ("sampler", "scheduler", "used", "schedule"),
    [
        (None, None, "Euler", "Automatic"),
        ("", "", "Euler", "Automatic"),
        ("Euler a", None, "Euler a", "Automatic"),
        ("Euler a Karras", None, "Euler a", "Karras"),
        ("Euler a Karras", "automatic", "Euler a", "Automatic"),
        ("Euler a Karras", "exponential", "Euler a", "Exponential"),
        ("Euler a karras", None, "Euler a", "Karras"),
        ("Euler a KARRAS", None, "DPM++ 2M", "Automatic"),
        ("DPM++ 2M Karras", None, "DPM++ 2M", "Automatic"),
        ("DPM++ 2M SDE SGMUniform", None, "DPM++ 2M SDE", "SGM Uniform"),
        ("euler a", None, "DPM++ 2M", "Automatic"),
        ("k_euler_a", None, "DPM++ 2M", "Automatic"),
        ("no such", "Karras", "DPM++ 2M", "Karras"),
        ("Euler", "no such", "Euler", "Automatic"),
        ("Euler", "karras", "Euler", "Karras"),
    ],
)
def test_names_of_samplers_and_schedulers(
    webui: WebUI, sampler: str | None, scheduler: str | None, used: str, schedule: str
) -> None:
    info = txt2img(webui, sampler_name=sampler, scheduler=scheduler, send_images=False)[1]
    assert info["sampler_name"] == used
    assert f"Sampler: {used}, Schedule type: {schedule}, " in info["infotexts"][0]


def test_sampler_index_is_a_name_too(webui: WebUI) -> None:
    assert txt2img(webui, sampler_index="Heun")[1]["sampler_name"] == "Heun"
    assert txt2img(webui, sampler_index="Heun", sampler_name="LCM")[1]["sampler_name"] == "LCM"


def test_an_infotext_fills_what_was_not_sent(webui: WebUI) -> None:
    text = "a fox\nNegative prompt: rain\nSteps: 9, Sampler: Heun, CFG scale: 4, Seed: 77, Size: 128x64"
    answer = webui.post("txt2img", infotext=text, steps=2)
    info = json.loads(answer["info"])
    assert (info["prompt"], info["negative_prompt"], info["seed"]) == ("a fox", "rain", 77)
    assert (info["steps"], info["width"], info["height"], info["sampler_name"]) == (2, 128, 64, "Heun")
