"""Images in: img2img, masks, metadata, upscaling."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import pytest
from PIL import Image, ImageDraw, ImageStat

from tests.support.webui_wire import WebUI, image_of, png_of, red
from tests.wire.test_sdapi_generation import DEFAULTS, LAST

SMALL = {"width": 64, "height": 64, "steps": 4, "seed": 1}

FROM_IMAGES = {
    "init_images": None, "resize_mode": 0, "image_cfg_scale": None, "mask": None, "mask_blur_x": 4, "mask_blur_y": 4,
    "mask_blur": None, "mask_round": True, "inpainting_fill": 0, "inpaint_full_res": True,
    "inpaint_full_res_padding": 0, "inpainting_mask_invert": 0, "initial_noise_multiplier": None, "latent_mask": None,
}  # fmt: skip


def img2img(webui: WebUI, **fields: Any) -> Image.Image:
    """Return the first image of a small request."""
    return image_of(webui.post("img2img", SMALL | fields)["images"][0])


def mean_red(image: Image.Image) -> float:
    """Return how red an image is above its label: 255 for all red."""
    r, g, b = ImageStat.Stat(image.crop((0, 0, image.width, image.height // 3))).mean
    return r - (g + b) / 2


def left_half_white() -> str:
    mask = Image.new("L", (64, 64), 0)
    ImageDraw.Draw(mask).rectangle((0, 0, 31, 63), fill=255)
    return png_of(mask)


def test_the_echo_has_every_default_and_blank_images(webui: WebUI) -> None:
    answer = webui.post("img2img", init_images=[red()], mask=left_half_white())
    assert list(answer) == ["images", "parameters", "info"]
    expected = DEFAULTS | {"denoising_strength": 0.75} | FROM_IMAGES | LAST
    order = [*DEFAULTS, *FROM_IMAGES, "force_task_id", "sampler_index", "include_init_images", *list(LAST)[2:]]
    assert answer["parameters"] == expected | {"include_init_images": False}
    assert list(answer["parameters"]) == order
    assert len(order) == 57


def test_the_images_are_echoed_on_request(webui: WebUI) -> None:
    sent = {"init_images": [red()], "mask": left_half_white(), "include_init_images": True}
    parameters = webui.post("img2img", SMALL | sent)["parameters"]
    assert {name: parameters[name] for name in sent} == sent


@pytest.mark.parametrize("body", [{}, {"init_images": None}])
def test_without_an_image_it_is_a_404(webui: WebUI, body: dict[str, Any]) -> None:
    response = webui.call("POST", "img2img", {"steps": 1} | body)
    expected = {"error": "HTTPException", "detail": "Init image not found", "body": "", "errors": ""}
    assert (response.status_code, response.json()) == (404, expected)


def test_the_first_image_shows_through_the_less_the_stronger(webui: WebUI) -> None:
    weak, strong = (mean_red(img2img(webui, init_images=[red()], denoising_strength=s)) for s in (0.1, 1.0))
    assert weak > strong > mean_red(img2img(webui, init_images=[png_of(Image.new("RGB", (64, 64), "blue"))]))
    assert weak > 150


def test_a_data_uri_and_bare_base64_are_one(webui: WebUI) -> None:
    bare = img2img(webui, init_images=[red()])
    assert img2img(webui, init_images=[f"data:image/png;base64,{red()}"]).tobytes() == bare.tobytes()


def test_images_come_out_at_the_asked_size(webui: WebUI) -> None:
    for mode in (0, 1, 2, 3):
        assert img2img(webui, init_images=[red(200, 100)], resize_mode=mode).size == (64, 64)


@pytest.mark.parametrize(("invert", "painted", "kept"), [(0, 0, 48), (1, 48, 0)])
def test_white_is_painted_over_and_black_is_kept(webui: WebUI, invert: int, painted: int, kept: int) -> None:
    fields = {"mask": left_half_white(), "mask_blur": 0, "inpainting_mask_invert": invert, "denoising_strength": 1}
    image = img2img(webui, init_images=[red()], **fields)
    assert image.getpixel((kept + 8, 4)) == (255, 0, 0)
    assert image.getpixel((painted + 8, 4)) != (255, 0, 0)


def test_a_blank_mask_masks_nothing(webui: WebUI) -> None:
    blank = png_of(Image.new("L", (64, 64), 0))
    plain = img2img(webui, init_images=[red()])
    assert img2img(webui, init_images=[red()], mask=blank).tobytes() == plain.tobytes()


def test_masks_are_returned_where_the_settings_say_so(webui: WebUI) -> None:
    settings = {"return_mask": True, "return_mask_composite": True}
    body = {"init_images": [red()], "mask": left_half_white(), "override_settings": settings, "n_iter": 2}
    answer = webui.post("img2img", SMALL | body)
    assert [image_of(image).mode for image in answer["images"]] == ["RGB", "RGB", "RGBA"] * 2
    assert len(json.loads(answer["info"])["infotexts"]) == 2


def test_several_images_make_a_batch(webui: WebUI) -> None:
    blue = png_of(Image.new("RGB", (64, 64), "blue"))
    answer = webui.post("img2img", SMALL | {"init_images": [red(), blue], "batch_size": 3, "denoising_strength": 0})
    first, second = map(image_of, answer["images"])
    assert mean_red(first) > 150 > 0 > mean_red(second)
    assert answer["parameters"]["batch_size"] == 3
    assert json.loads(answer["info"])["batch_size"] == 2


def test_more_images_than_a_batch_holds_are_refused(webui: WebUI) -> None:
    response = webui.call("POST", "img2img", SMALL | {"init_images": [red(), red()]})
    assert (response.status_code, response.json()["error"]) == (500, "RuntimeError")
    assert "bad number of images" in response.json()["errors"]


BROKEN = ["", "not base64!", "aGVsbG8=", "data:image/png;base64,aGVsbG8="]


@pytest.mark.parametrize("broken", BROKEN)
def test_what_is_no_image_is_refused(webui: WebUI, broken: str) -> None:
    for name, body in (("img2img", {"init_images": [broken]}), ("png-info", {"image": broken})):
        response = webui.call("POST", name, body)
        expected = {"error": "HTTPException", "detail": "Invalid encoded image", "body": "", "errors": ""}
        assert (response.status_code, response.json()) == (500, expected)


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/a.png", "https://example.com/a.png"])
def test_an_image_is_never_fetched(webui: WebUI, url: str) -> None:
    for name, body in (("img2img", {"init_images": [url]}), ("img2img", {"init_images": [red()], "mask": url})):
        response = webui.call("POST", name, body)
        assert (response.status_code, response.json()["detail"]) == (500, "Request to local resource not allowed")


def test_an_image_cut_short_is_a_crash_that_is_answered(webui: WebUI) -> None:
    noisy = Image.effect_noise((64, 64), 80)
    response = webui.call("POST", "img2img", SMALL | {"init_images": [png_of(noisy)[:2000]]})
    assert (response.status_code, response.json()["error"]) == (500, "OSError")


def test_steps_are_fewer_for_a_weaker_change(slow_webui: WebUI) -> None:
    slow_webui.post("img2img", SMALL | {"init_images": [red()], "steps": 10, "denoising_strength": 0.5})
    assert slow_webui.progress()["state"]["sampling_steps"] == 6
    slow_webui.post("img2img", SMALL | {"init_images": [red()], "steps": 4, "denoising_strength": 1})
    assert slow_webui.progress()["state"]["sampling_steps"] == 4


def test_png_info_reads_what_was_written(webui: WebUI) -> None:
    body = SMALL | {"prompt": "a fox, red", "negative_prompt": "rain", "width": 128, "sampler_name": "Heun"}
    made = webui.post("txt2img", body)
    answer = webui.post("png-info", image=made["images"][0])
    assert list(answer) == ["info", "items", "parameters"]
    assert answer["info"] == json.loads(made["info"])["infotexts"][0]
    assert answer["items"] == {}
    expected = {"Prompt": "a fox, red", "Negative prompt": "rain", "Steps": "4", "Sampler": "Heun", "Seed": "1"}
    expected |= {"Size-1": "128", "Size-2": "64", "Model": "placeholder", "CFG scale": "7.0", "Clip skip": "1"}
    assert {key: answer["parameters"][key] for key in expected} == expected
    assert (answer["parameters"]["Hires resize-1"], answer["parameters"]["Hires prompt"]) == (0, "")


def test_png_info_of_a_plain_image_has_defaults_only(webui: WebUI) -> None:
    answer = webui.post("png-info", image=f"data:image/png;base64,{red()}")
    assert (answer["info"], answer["items"]) == ("", {})
    assert answer["parameters"]["Prompt"] == ""
    assert answer["parameters"]["Schedule type"] == "Automatic"


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_png_info_reads_other_files(webui: WebUI, kind: str) -> None:
    file = BytesIO()
    Image.new("RGB", (8, 8)).save(file, kind)
    webui.post("options", samples_format=kind.lower())
    try:
        made = webui.post("txt2img", SMALL | {"prompt": "一只狐狸"})
    finally:
        webui.post("options", samples_format="png")
    assert image_of(made["images"][0]).format == kind
    assert webui.post("png-info", image=made["images"][0])["info"] == json.loads(made["info"])["infotexts"][0]


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"upscaler_1": "Lanczos"}, (128, 64)),
        ({"upscaler_1": "Nearest", "upscaling_resize": 1.5}, (96, 48)),
        ({"upscaler_1": "None"}, (64, 32)),
        ({}, (64, 32)),
        ({"upscaler_1": "Lanczos", "resize_mode": 1, "upscaling_resize_w": 100, "upscaling_resize_h": 90}, (100, 90)),
        ({"upscaler_1": "Lanczos", "upscaler_2": "Nearest", "extras_upscaler_2_visibility": 0.5}, (128, 64)),
    ],
)
def test_images_are_really_upscaled(webui: WebUI, fields: dict[str, Any], size: tuple[int, int]) -> None:
    answer = webui.post("extra-single-image", {"image": red(64, 32)} | fields)
    assert list(answer) == ["html_info", "image"]
    image = image_of(answer["image"])
    assert (image.size, image.getpixel((5, 5))) == (size, (255, 0, 0))
    files = [{"data": red(64, 32), "name": "a"}, {"data": red(64, 32), "name": "b"}]
    batch = webui.post("extra-batch-images", {"imageList": files} | fields)
    assert list(batch) == ["html_info", "images"]
    assert [image_of(encoded).size for encoded in batch["images"]] == [size, size]


@pytest.mark.parametrize(
    ("body", "loc", "kind"),
    [
        ({"resize_mode": 2}, "resize_mode", "value_error.const"),
        ({"gfpgan_visibility": 1.5}, "gfpgan_visibility", "value_error.number.not_le"),
        ({"codeformer_weight": -1}, "codeformer_weight", "value_error.number.not_ge"),
        ({"upscaling_resize": 0}, "upscaling_resize", "value_error.number.not_gt"),
        ({"upscaling_resize_w": 0}, "upscaling_resize_w", "value_error.number.not_ge"),
    ],
)
def test_the_limits_of_upscaling(webui: WebUI, body: dict[str, Any], loc: str, kind: str) -> None:
    response = webui.call("POST", "extra-single-image", {"image": red()} | body)
    (item,) = response.json()["detail"]
    assert (response.status_code, item["loc"], item["type"]) == (422, ["body", loc], kind)
    assert item["ctx"]


def test_required_fields_are_told(webui: WebUI) -> None:
    for name, body, loc in (
        ("extra-batch-images", {"resize_mode": 0}, ["imageList"]),
        ("extra-batch-images", {"imageList": [{"data": ""}]}, ["imageList", 0, "name"]),
        ("png-info", {"x": 1}, ["image"]),
    ):
        (item,) = webui.call("POST", name, body).json()["detail"]
        assert (item["loc"], item["msg"], item["type"]) == (["body", *loc], "field required", "value_error.missing")


def test_an_unknown_upscaler_and_a_huge_result_are_crashes(webui: WebUI) -> None:
    unknown = webui.call("POST", "extra-single-image", {"image": red(), "upscaler_1": "R-ESRGAN 4x+"})
    assert (unknown.status_code, unknown.json()["error"]) == (500, "AssertionError")
    huge = {"image": red(), "upscaler_1": "Lanczos", "upscaling_resize": 1e30}
    assert webui.call("POST", "extra-single-image", huge).json()["error"] == "OutOfMemoryError"


def test_interrogate_says_that_it_cannot(webui: WebUI) -> None:
    for model in ("clip", "deepdanbooru"):
        assert "placeholder" in webui.post("interrogate", image=red(), model=model)["caption"]
    response = webui.call("POST", "interrogate", {"image": red(), "model": "x"})
    assert (response.status_code, response.json()["detail"]) == (404, "Model not found")
