"""ComfyUI's files, cache, lists and origins, and the end of its process: sections 7 to 9 of its facts."""

from __future__ import annotations

import json
import uuid
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.support.comfyui_wire import PATIENCE_S, ComfyUI, Listener, node, running, stepping, still, through, txt2img
from tests.support.ports import free_port
from tests.support.webuis import picture


def unique() -> str:
    """Return a name that no file has."""
    return f"graycat-{uuid.uuid4().hex}"


def image_of(server: ComfyUI, prompt: Any, output: str = "9", **fields: Any) -> dict[str, str]:
    """Run a prompt; return where its one image is."""
    (image,) = server.finish(prompt, **fields)["outputs"][output]["images"]
    return dict(image)


def upload(server: ComfyUI, name: str, content: bytes, **fields: str) -> Any:
    """Upload a file; return the answer."""
    return server.call("POST", "/upload/image", files={"image": (name, content)}, data=fields)


def test_an_output_is_served_with_its_name_and_dates(comfyui: ComfyUI) -> None:
    image = image_of(comfyui, still())
    response = comfyui.call("GET", "/view", params=image)
    headers = response.headers
    assert (response.status_code, headers["Content-Type"]) == (200, "image/png")
    assert headers["Content-Disposition"] == f'filename="{image["filename"]}"'
    assert "ETag" in headers
    assert "Last-Modified" in headers
    assert "Cache-Control" not in headers
    assert Image.open(BytesIO(response.content)).size == (32, 16)
    part = comfyui.call("GET", "/view", params=image, headers={"Range": "bytes=0-3"})
    assert (part.status_code, part.content) == (206, b"\x89PNG")
    again = comfyui.call("GET", "/view", params=image, headers={"If-None-Match": headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    head = comfyui.call("HEAD", "/view", params=image)
    assert (head.status_code, head.content, head.headers["Content-Length"]) == (200, b"", str(len(response.content)))


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({}, 404),
        ({"filename": "no-such.png"}, 404),
        ({"filename": ""}, 400),
        ({"filename": "../secret"}, 400),
        ({"filename": "/etc/passwd"}, 400),
        ({"filename": "a.png", "type": "root"}, 400),
        ({"filename": "a.png", "subfolder": "../.."}, 403),
        ({"filename": "a.png", "subfolder": "/etc"}, 403),
    ],
)
def test_what_is_not_served(comfyui: ComfyUI, query: dict[str, str], status: int) -> None:
    response = comfyui.call("GET", "/view", params=query)
    assert (response.status_code, response.content) == (status, b"")


def test_a_view_in_another_format_has_no_texts(comfyui: ComfyUI) -> None:
    image = image_of(comfyui, still())
    for preview, kind in (("webp;50", "WEBP"), ("jpeg", "JPEG")):
        response = comfyui.call("GET", "/view", params=image | {"preview": preview})
        assert Image.open(BytesIO(response.content)).format == kind
    for channel in ("rgb", "a"):
        response = comfyui.call("GET", "/view", params=image | {"channel": channel})
        shown = Image.open(BytesIO(response.content))
        shown.load()
        assert (shown.format, shown.info.get("prompt")) == ("PNG", None)


def test_a_preview_of_what_is_no_image_is_a_500(comfyui: ComfyUI) -> None:
    answer = upload(comfyui, f"{unique()}.png", b"no image").json()
    query = {"filename": answer["name"], "type": "input", "preview": "webp"}
    assert comfyui.call("GET", "/view", params=query).status_code == 500


def test_a_preview_image_lies_in_another_folder(comfyui: ComfyUI) -> None:
    prompt = still()
    prompt["9"] = node("PreviewImage", images=["1", 0])
    image = image_of(comfyui, prompt)
    assert image["type"] == "temp"
    assert comfyui.call("GET", "/view", params=image).status_code == 200
    assert comfyui.call("GET", "/view", params=image | {"type": "output"}).status_code == 404


def test_an_upload_keeps_its_name_or_gets_another(comfyui: ComfyUI) -> None:
    stem = unique()
    red, blue = picture("red"), picture("blue")
    own = {"name": f"{stem}.png", "subfolder": "", "type": "input"}
    assert upload(comfyui, f"{stem}.png", red).json() == own
    assert upload(comfyui, f"{stem}.png", red).json() == own
    assert upload(comfyui, f"{stem}.png", blue).json() == own | {"name": f"{stem} (1).png"}
    assert upload(comfyui, f"{stem}.png", blue, overwrite="yes").json() == own | {"name": f"{stem} (1).png"}
    for said in ("true", "1"):
        assert upload(comfyui, f"{stem}.png", blue, overwrite=said).json() == own
    stored = comfyui.call("GET", "/view", params={"filename": f"{stem}.png", "type": "input"})
    assert stored.content == blue
    elsewhere = upload(comfyui, f"{stem}.png", red, subfolder=stem, type="temp").json()
    assert elsewhere == {"name": f"{stem}.png", "subfolder": stem, "type": "temp"}


def test_what_is_uploaded_is_not_looked_at(comfyui: ComfyUI) -> None:
    for content in (b"", b"text"):
        answer = upload(comfyui, f"{unique()}.png", content)
        assert answer.status_code == 200
    prompt = still()
    prompt["1"] = node("LoadImage", image=answer.json()["name"])
    assert comfyui.finish(prompt)["status"]["messages"][-1][0] == "execution_error"


def test_uploads_that_are_refused(comfyui: ComfyUI) -> None:
    assert comfyui.call("POST", "/upload/image", files={"other": ("a.png", b"x")}).status_code == 400
    assert upload(comfyui, "a.png", b"x", subfolder="../..").status_code == 400
    assert upload(comfyui, f"{unique()}/a.png", b"x").status_code == 500
    assert upload(comfyui, "a.png", b"x", type="root").status_code == 500


def test_an_uploaded_picture_is_an_input(comfyui: ComfyUI) -> None:
    folder = unique()
    uploaded = upload(comfyui, "a.png", picture("red"), subfolder=folder).json()
    prompt = still()
    prompt["1"] = node("LoadImage", image=f"{uploaded['subfolder']}/{uploaded['name']}")
    image = image_of(comfyui, prompt)
    shown = Image.open(BytesIO(comfyui.call("GET", "/view", params=image).content))
    assert shown.getpixel((0, 0)) == (255, 0, 0)
    prompt["1"] = node("LoadImage", image=f"{image['filename']} [output]")
    assert comfyui.finish(prompt)["status"]["status_str"] == "success"


def test_files_count_up_from_the_highest_on_disk(comfyui: ComfyUI) -> None:
    prefix = unique()
    names = [image_of(comfyui, still(prefix=prefix))["filename"] for _ in range(2)]
    assert names == [f"{prefix}_00001_.png", f"{prefix}_00002_.png"]


def test_a_prefix_may_name_a_folder_and_the_size(comfyui: ComfyUI) -> None:
    folder = unique()
    image = image_of(comfyui, still(prefix=f"{folder}/%width%x%height%"))
    assert (image["subfolder"], image["filename"]) == (folder, "32x16_00001_.png")
    kept = image_of(comfyui, still(prefix=f"{folder}/%date:yyyy%"))
    assert kept["filename"] == "%date:yyyy%_00001_.png"


@pytest.mark.parametrize("prefix", ["../../outside", "/tmp/outside"])  # noqa: S108 (it is refused)
def test_a_prefix_outside_of_the_folder_fails_the_run(comfyui: ComfyUI, prefix: str) -> None:
    entry = comfyui.finish(still(prefix=prefix))
    assert entry["status"]["messages"][-1][0] == "execution_error"


def test_a_picture_has_the_workflow_and_what_the_caller_gave(comfyui: ComfyUI) -> None:
    prompt = still()
    image = image_of(comfyui, prompt, extra_data={"extra_pnginfo": {"workflow": {"a": 1}}})
    texts = Image.open(BytesIO(comfyui.call("GET", "/view", params=image).content)).info
    assert (json.loads(texts["prompt"]), json.loads(texts["workflow"])) == (prompt, {"a": 1})


def test_metadata_can_be_switched_off(tmp_path: Path) -> None:
    with running("--disable-metadata", base=tmp_path) as server:
        image = image_of(server, still())
        assert "prompt" not in Image.open(BytesIO(server.call("GET", "/view", params=image).content)).info


def test_the_same_workflow_makes_no_new_picture(comfyui: ComfyUI) -> None:
    prompt = still(prefix=unique())
    first = image_of(comfyui, prompt)
    assert image_of(comfyui, prompt) == first
    prompt["1"]["inputs"]["color"] ^= 1
    assert image_of(comfyui, prompt) != first


def test_a_file_that_changes_is_read_again(comfyui: ComfyUI) -> None:
    name = f"{unique()}.png"
    prompt = still()
    shown = []
    for color in ("red", "blue"):
        upload(comfyui, name, picture(color), overwrite="true")
        prompt["1"] = node("LoadImage", image=name)
        image = image_of(comfyui, prompt)
        shown.append(Image.open(BytesIO(comfyui.call("GET", "/view", params=image).content)).getpixel((0, 0)))
    assert shown == [(255, 0, 0), (0, 0, 255)]


def test_the_seed_changes_the_picture_and_a_start_picture_stays(comfyui: ComfyUI) -> None:
    seeds = [uuid.uuid4().int % 2**60 for _ in range(2)]
    images = [image_of(comfyui, txt2img(comfyui, seed)) for seed in seeds]
    first, second = (comfyui.call("GET", "/view", params=image).content for image in images)
    assert Image.open(BytesIO(first)).tobytes() != Image.open(BytesIO(second)).tobytes()
    uploaded = upload(comfyui, f"{unique()}.png", picture("red", size=(64, 64))).json()
    prompt = txt2img(comfyui, seeds[0], denoise=0.01)
    prompt["4"] = node("VAEEncode", pixels=["7", 0], vae=["1", 2])
    prompt["7"] = node("LoadImage", image=uploaded["name"])
    assert comfyui.finish(prompt)["status"]["status_str"] == "success"


def test_object_info_has_the_shape_of_each_class(comfyui: ComfyUI) -> None:
    info = comfyui.get("/object_info")
    fields = {"input", "input_order", "output", "output_is_list", "output_name", "name", "display_name"}
    for name in ("KSampler", "SaveImage", "LoadImage", "OperatorTint"):
        assert fields | {"description", "python_module", "category", "output_node"} <= set(info[name])
        assert comfyui.get(f"/object_info/{name}") == {name: info[name]}
    sampler = info["KSampler"]
    assert sampler["input_order"]["required"] == list(sampler["input"]["required"])
    assert sampler["input"]["required"]["seed"][1]["max"] == 2**64 - 1
    assert "euler" in sampler["input"]["required"]["sampler_name"][0]
    assert comfyui.checkpoint in info["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0]
    assert info["OperatorTint"]["input"]["required"]["style"][0] == "COMBO"
    assert info["OperatorTint"]["input"]["required"]["style"][1]["options"] == ["plain", "poster"]
    # Options are left out where there are none, and nodes of the newer kind tell choices there.
    assert info["PreviewImage"]["input"]["required"]["images"] == ["IMAGE"]
    assert info["UpscaleModelLoader"]["input"]["required"]["model_name"][0] == "COMBO"
    assert isinstance(info["UpscaleModelLoader"]["input"]["required"]["model_name"][1]["options"], list)
    assert {"res_multistep", "uni_pc_bh2"} <= set(sampler["input"]["required"]["sampler_name"][0])
    assert info["SaveImage"]["output_node"] is True
    assert info["SaveImage"]["input"]["hidden"] == {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}
    assert comfyui.get("/object_info/NoSuchClass") == {}


#: What classes take and give.
CLASSES = {
    "CheckpointLoaderSimple": "ckpt_name -> MODEL CLIP VAE",
    "LoraLoader": "model clip lora_name strength_model strength_clip -> MODEL CLIP",
    "CLIPTextEncode": "text clip -> CONDITIONING",
    "EmptyLatentImage": "width height batch_size -> LATENT",
    "EmptyImage": "width height batch_size color -> IMAGE",
    "KSampler": "model seed steps cfg sampler_name scheduler positive negative latent_image denoise -> LATENT",
    "VAEDecode": "samples vae -> IMAGE",
    "VAEEncode": "pixels vae -> LATENT",
    "VAEEncodeForInpaint": "pixels vae mask grow_mask_by -> LATENT",
    "SetLatentNoiseMask": "samples mask -> LATENT",
    "LoadImage": "image -> IMAGE MASK",
    "LoadImageMask": "image channel -> MASK",
    "SaveImage": "images filename_prefix ->",
    "PreviewImage": "images ->",
    "UpscaleModelLoader": "model_name -> UPSCALE_MODEL",
    "ImageUpscaleWithModel": "upscale_model image -> IMAGE",
    "ImageScale": "image upscale_method width height crop -> IMAGE",
    "PreviewAny": "source ->",
}


@pytest.mark.parametrize(("name", "signature"), CLASSES.items())
def test_what_a_class_takes_and_gives(comfyui: ComfyUI, name: str, signature: str) -> None:
    told = comfyui.get(f"/object_info/{name}")[name]
    assert " ".join([*told["input_order"]["required"], "->", *told["output"]]) == signature


@pytest.mark.parametrize(
    ("name", "key", "lowest", "highest"),
    [
        ("KSampler", "seed", 0, 2**64 - 1),
        ("KSampler", "steps", 1, 10_000),
        ("KSampler", "cfg", 0.0, 100.0),
        ("KSampler", "denoise", 0.0, 1.0),
        ("EmptyLatentImage", "width", 16, 16_384),
        ("EmptyLatentImage", "batch_size", 1, 4096),
        ("ImageScale", "width", 0, 16_384),
        ("LoraLoader", "strength_model", -100.0, 100.0),
    ],
)
def test_the_limits_of_a_value(comfyui: ComfyUI, name: str, key: str, lowest: float, highest: float) -> None:
    options = comfyui.get(f"/object_info/{name}")[name]["input"]["required"][key][1]
    assert (options["min"], options["max"]) == (lowest, highest)


def test_models_are_listed_by_folder(comfyui: ComfyUI) -> None:
    assert {"checkpoints", "loras", "vae", "upscale_models", "embeddings"} <= set(comfyui.get("/models"))
    assert comfyui.checkpoint in comfyui.get("/models/checkpoints")
    assert isinstance(comfyui.get("/embeddings"), list)
    missing = comfyui.call("GET", "/models/no-such")
    assert (missing.status_code, missing.content) == (404, b"")


def test_statistics_name_release_and_devices(comfyui: ComfyUI) -> None:
    told = comfyui.get("/system_stats")
    assert {"os", "ram_total", "ram_free", "comfyui_version", "python_version", "argv"} <= set(told["system"])
    (device, *_) = told["devices"]
    assert set(device) == {*("name", "type", "index", "vram_total", "vram_free"), "torch_vram_total", "torch_vram_free"}


def test_a_page_of_another_origin_is_refused(release: ComfyUI) -> None:
    host = release.url.removeprefix("http://")
    port = host.rpartition(":")[2]
    for origin, status in ((f"http://{host}", 200), (f"http://localhost:{port}", 403), ("http://evil.example", 403)):
        assert release.call("GET", "/queue", headers={"Origin": origin}).status_code == status
    foreign = {"Origin": "http://evil.example", "Host": "gateway.example"}
    assert release.call("GET", "/queue", headers=foreign).status_code == 200
    cross = release.call("GET", "/queue", headers={"Sec-Fetch-Site": "cross-site"})
    assert cross.status_code == (403 if release.habits.fetch_site else 200)


def test_a_body_over_the_limit_is_refused(tmp_path: Path) -> None:
    with running("--max-upload-size", "0.001", base=tmp_path) as server:
        prompt = still() | {"7": node("OperatorText", text="a" * 2000)}
        response = server.send(prompt)
        assert (response.status_code, response.text) == (413, "Maximum request body size 1049 exceeded.")
        assert server.finish(still())["status"]["status_str"] == "success"


def test_a_restart_loses_all_but_the_files(tmp_path: Path) -> None:
    port = free_port()
    with running(base=tmp_path, port=port) as server:
        made = image_of(server, still())
        temporary = image_of(server, through("OperatorTint", **TINT) | {"9": node("PreviewImage", images=["5", 0])})
        with Listener(server) as listener:
            lost = server.accept(stepping(steps=100_000, step_s=0.01), client_id=listener.client_id)
            listener.wait(lambda _: bool(listener.of("progress")))
            assert server.process is not None
            server.process.terminate()
            server.process.wait(PATIENCE_S)
    with running(base=tmp_path, port=port) as server:
        assert (server.queued(), server.get("/history"), server.history(lost)) == (([], []), {}, None)
        assert server.call("GET", "/view", params=made).status_code == 200
        assert server.call("GET", "/view", params=temporary).status_code == 404
        assert server.send(still()).json()["number"] == 0


TINT = {"gain": 0.5, "bits": 3, "inverted": True, "style": "poster"}


@pytest.mark.parametrize("how", ["error", "oom", "kill"])
def test_the_double_fails_in_a_node_as_it_is_told(tmp_path: Path, how: str) -> None:
    with running("--fail", how, "--fails", "1", base=tmp_path) as server:
        prompt_id = server.accept(txt2img(server))
        if how == "kill":
            assert server.process is not None
            assert server.process.wait(PATIENCE_S) == 1
            return
        server.wait_until_idle()
        assert server.history(prompt_id)["status"]["messages"][-1][0] == "execution_error"
        assert server.finish(txt2img(server))["status"]["status_str"] == "success"
