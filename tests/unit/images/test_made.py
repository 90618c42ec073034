from __future__ import annotations

import json
from dataclasses import replace
from io import BytesIO
from typing import Any

import pytest
from PIL import Image, PngImagePlugin

from graycat.images.infotext import encode_user_comment, parse
from graycat.images.made import Made, compare, complete_info, read_made

A1111 = (
    "a cat: Seed: 1, Steps: 9, Sampler: x\nNegative prompt: a dog\n"
    "Steps: 20, Sampler: DPM++ 2M, Schedule type: Karras, "
    "CFG scale: 7, Seed: 42, Size: 64x64, Model hash: 0123456789, Model: dreams, Version: v1.10.1"
)
#: The form of sd-server's text (stable-diffusion-cpp-python 0.4.7). The prompt stands in its JSON again.
SD_SERVER = (
    "a cat, Seed: 1, Sampler: x\nSteps: 2, CFG scale: 7.000000, Guidance: 3.500000, Eta: inf, Seed: 2147483647, "
    "Size: 64x64, Model: tiny.safetensors, RNG: cuda, Sampler: euler_a karras, Version: stable-diffusion.cpp, SDCPP: "
    + json.dumps(
        {
            "schema": "sdcpp.image.params/v1",
            "seed": 2147483647,
            "prompt": {"positive": "a cat, Seed: 1, Sampler: x", "negative": ""},
            "sampling": {"steps": 2, "method": "euler_a", "scheduler": "karras"},
            "models": {"model": "tiny.safetensors"},
        }
    )
)


def png(text: str = "", size: tuple[int, int] = (64, 64)) -> bytes:
    file, info = BytesIO(), PngImagePlugin.PngInfo()
    if text:
        info.add_text("parameters", text)
    Image.new("RGB", size).save(file, "PNG", pnginfo=info)
    return file.getvalue()


def with_exif(kind: str, text: str) -> bytes:
    file, exif = BytesIO(), Image.Exif()
    exif.get_ifd(0x8769)[0x9286] = encode_user_comment(text)
    Image.new("RGB", (64, 64)).save(file, kind, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("data", [png(A1111), with_exif("JPEG", A1111), with_exif("WEBP", A1111)])
def test_a_picture_tells_how_it_was_made(data: bytes) -> None:
    made = read_made(data)
    assert (made.seed, made.steps, made.cfg_scale, made.sampler, made.scheduler) == (42, 20, 7.0, "DPM++ 2M", "Karras")
    assert (made.model, made.model_hash, made.width, made.height) == ("dreams", "0123456789", 64, 64)
    assert (made.prompt, made.negative_prompt) == ("a cat: Seed: 1, Steps: 9, Sampler: x", "a dog")


def test_sd_server_s_text_is_read_by_its_json_and_a_prompt_cannot_speak_for_it() -> None:
    made = read_made(png(SD_SERVER))
    assert (made.seed, made.steps, made.sampler, made.scheduler) == (2147483647, 2, "euler_a", "karras")
    assert (made.model, made.prompt) == ("tiny.safetensors", "a cat, Seed: 1, Sampler: x")
    assert parse(SD_SERVER)["Seed"] == "2147483647"


@pytest.mark.parametrize("data", [b"", b"no image", png()[:30], b"GIF89a" + bytes(20)])
def test_what_is_no_picture_tells_nothing(data: bytes) -> None:
    assert read_made(data) == Made()


@pytest.mark.parametrize(
    "text",
    ["just words", "Steps: many, Seed: x, Sampler: y, SDCPP: {", 'Steps: 1, Seed: 2, A b: c, SDCPP: {"seed": []}'],
)
def test_odd_texts_are_read_as_far_as_they_make_sense(text: str) -> None:
    made = read_made(png(text))
    assert (made.width, made.seed) == (64, None)


@pytest.mark.parametrize(
    ("asked", "fields"),
    [
        ({}, []),
        ({"seed": 42, "steps": 20, "width": 64, "height": 64, "sampler_name": "DPM++ 2M"}, []),
        ({"seed": -1, "sampler_name": ""}, []),
        ({"sampler_name": "DPM++ 2M Karras"}, []),
        ({"seed": 7}, ["seed"]),
        ({"seed": 7, "script_name": "x/y/z plot"}, []),
        ({"steps": 150}, ["steps"]),
        ({"width": 68, "height": 64}, ["size"]),
        ({"width": 68, "height": 64, "enable_hr": True}, []),
        ({"width": 68, "height": 64, "init_images": ["..."]}, []),
        ({"sampler_name": "Euler a"}, ["sampler_name"]),
        ({"scheduler": "karras"}, []),
        ({"scheduler": "Automatic"}, []),
        ({"scheduler": "Exponential"}, ["scheduler"]),
        ({"override_settings": {"sd_model_checkpoint": "sub/Dreams.safetensors [0123456789]"}}, []),
        ({"override_settings": {"sd_model_checkpoint": "other name.safetensors [0123456789]"}}, []),
        ({"override_settings": {"sd_model_checkpoint": "sub\\dreams.ckpt"}}, []),
        ({"override_settings": {"sd_model_checkpoint": "0123456789"}}, []),
        ({"override_settings": {"sd_model_checkpoint": "dreams.safetensors [9999999999]"}}, ["model"]),
        ({"override_settings": {"sd_model_checkpoint": "nightmares.safetensors"}}, ["model"]),
        ({"override_settings": {"sd_model_checkpoint": "nightmares"}, "refiner_checkpoint": "dreams"}, []),
        ({"override_settings": {"sd_model_checkpoint": 5}}, []),
        ({"batch_size": 2, "n_iter": 2}, ["batch_size"]),
        ({"seed": "7", "steps": "much"}, ["seed"]),
    ],
    ids=str,
)
def test_what_is_unlike_the_request_is_told(asked: dict[str, Any], fields: list[str]) -> None:
    warnings = compare(asked, [read_made(png(A1111))])
    assert [warning["field"] for warning in warnings] == fields
    for warning in warnings:
        assert set(warning) == {"field", "asked", "made", "message"}
        assert str(warning["made"]) in warning["message"]


GOOD = Made(seed=7, steps=20, sampler="Euler", width=64, height=64)


@pytest.mark.parametrize(
    ("asked", "second", "told"),
    [
        ({"seed": 7}, {"seed": 8}, {}),
        ({"seed": 7}, {"seed": 7}, {"seed": (8, 7)}),
        ({"seed": 7}, {"seed": 9, "sampler": "Heun"}, {"seed": (8, 9), "sampler_name": ("Euler", "Heun")}),
        # A variation has one seed, and counts its subseeds.
        ({"seed": 7, "subseed_strength": 0.5}, {"seed": 7}, {}),
        ({"seed": 7, "subseed_strength": 0}, {"seed": 7}, {"seed": (8, 7)}),
        ({"seed": -1}, {"seed": 99}, {}),
        ({"width": 64, "height": 64}, {"width": 32}, {"size": ("64x64", "32x64")}),
        ({"steps": 20}, {"steps": 3}, {"steps": (20, 3)}),
        # What a script adds behind the images is no image that was asked for.
        ({"seed": 7, "batch_size": 1}, {"seed": 1, "sampler": "Heun"}, {}),
    ],
    ids=str,
)
def test_every_picture_of_a_request_is_compared(
    asked: dict[str, Any], second: dict[str, Any], told: dict[str, Any]
) -> None:
    body = {"batch_size": 2, "sampler_name": "Euler"} | asked
    warnings = compare(body, [GOOD, replace(GOOD, **second)])
    assert {warning["field"]: (warning["asked"], warning["made"]) for warning in warnings} == told
    assert all("image 2" in warning["message"] for warning in warnings)


def test_a_thousand_pictures_that_are_unlike_give_one_warning_for_each_field() -> None:
    warnings = compare({"n_iter": 1000, "seed": 5, "sampler_name": "Heun"}, [GOOD] * 1000)
    assert [(warning["field"], warning["made"]) for warning in warnings] == [("seed", 7), ("sampler_name", "Euler")]


def test_a_picture_without_a_text_is_believed() -> None:
    assert compare({"seed": 7, "steps": 3, "sampler_name": "Euler"}, [Made()]) == []
    assert compare({"seed": 7}, []) == []


def test_an_empty_info_is_filled_from_the_pictures() -> None:
    info = json.loads(complete_info("", [read_made(png(A1111)), read_made(png(SD_SERVER))]))
    assert (info["seed"], info["all_seeds"], info["sampler_name"]) == (42, [42, 2147483647], "DPM++ 2M")
    assert (info["width"], info["infotexts"][0], info["sd_model_name"]) == (64, A1111, "dreams")


@pytest.mark.parametrize("info", ['{"seed": 5}', "no json", 5])
def test_an_engine_s_own_info_stays(info: Any) -> None:
    assert complete_info(info, [read_made(png(A1111))]) == info


def test_an_info_that_is_an_object_becomes_a_string_as_a_webui_s() -> None:
    assert json.loads(complete_info({"seed": 5}, [Made(width=64, height=64)])) == {"seed": 5}
    assert complete_info("", [Made()]) == ""
    assert complete_info(None, []) is None
