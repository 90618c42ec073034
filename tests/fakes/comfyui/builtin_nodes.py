"""The real server's own nodes, as far as a gateway's workflows use them."""

from __future__ import annotations

import asyncio
import uuid
from dataclasses import replace
from typing import Any

from PIL import Image, ImageOps

from tests.fakes.comfyui.files import Folders
from tests.fakes.comfyui.nodes import NODES, Context, Inputs, Node
from tests.fakes.comfyui.values import SCALE, Latent, Model, Picture, Result, digest, drawn

MAX_SIZE = 16384
MAX_SEED = 2**64 - 1
SAMPLERS = (
    *("euler", "euler_cfg_pp", "euler_ancestral", "euler_ancestral_cfg_pp", "heun", "heunpp2", "dpm_2"),
    *("dpm_2_ancestral", "lms", "dpm_fast", "dpm_adaptive", "dpmpp_2s_ancestral", "dpmpp_2s_ancestral_cfg_pp"),
    *(
        "dpmpp_sde",
        "dpmpp_sde_gpu",
        "dpmpp_2m",
        "dpmpp_2m_cfg_pp",
        "dpmpp_2m_sde",
        "dpmpp_2m_sde_gpu",
        "dpmpp_2m_sde_heun",
    ),
    *("dpmpp_2m_sde_heun_gpu", "dpmpp_3m_sde", "dpmpp_3m_sde_gpu", "ddpm", "lcm", "ipndm", "ipndm_v", "deis"),
    *("res_multistep", "res_multistep_cfg_pp", "res_multistep_ancestral", "res_multistep_ancestral_cfg_pp"),
    *("gradient_estimation", "gradient_estimation_cfg_pp", "er_sde", "seeds_2", "seeds_3", "sa_solver"),
    *("sa_solver_pece", "ddim", "uni_pc", "uni_pc_bh2"),
)
SCHEDULERS = (
    *("simple", "sgm_uniform", "karras", "exponential", "ddim_uniform", "beta", "normal", "linear_quadratic"),
    "kl_optimal",
)
METHODS = ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"]
HIDDEN = {"prompt": "PROMPT", "extra_pnginfo": "EXTRA_PNGINFO"}


def whole(default: int, low: int, high: int, **more: Any) -> tuple[str, dict[str, Any]]:
    """Return the spec of an INT."""
    return "INT", {"default": default, "min": low, "max": high, **more}


def number(default: float, low: float, high: float, **more: Any) -> tuple[str, dict[str, Any]]:
    """Return the spec of a FLOAT."""
    return "FLOAT", {"default": default, "min": low, "max": high, **more}


def link(kind: str) -> tuple[str, dict[str, Any]]:
    """Return the spec of an input that only a link can be."""
    return kind, {}


async def load_checkpoint(_: Context, inputs: Inputs) -> Result:
    """MODEL, CLIP and VAE are all the same name."""
    model = Model(inputs["ckpt_name"])
    return Result((model, model, model))


async def load_lora(_: Context, inputs: Inputs) -> Result:
    """Put a LoRA onto model and text encoder."""
    model, clip = inputs["model"], inputs["clip"]
    name = inputs["lora_name"]
    with_model = replace(model, additions=(*model.additions, f"{name}:{inputs['strength_model']}"))
    with_clip = replace(clip, additions=(*clip.additions, f"{name}:{inputs['strength_clip']}"))
    return Result((with_model, with_clip))


async def encode_text(_: Context, inputs: Inputs) -> Result:
    """A conditioning is its text."""
    return Result(((inputs["text"], inputs["clip"]),))


async def empty_latent(_: Context, inputs: Inputs) -> Result:
    """Sizes are cut to what latents have."""
    width, height = (inputs[side] // SCALE * SCALE for side in ("width", "height"))
    return Result((Latent(width, height, inputs["batch_size"]),))


async def empty_image(_: Context, inputs: Inputs) -> Result:
    """Pictures of one colour."""
    color = "#{:06x}".format(inputs["color"])
    return Result(
        (tuple(Image.new("RGB", (inputs["width"], inputs["height"]), color) for _ in range(inputs["batch_size"])),)
    )


async def sample(context: Context, inputs: Inputs) -> Result:
    """Draw step by step; a start picture stays to ``1 - denoise``, and all of it outside the mask."""
    latent: Latent = inputs["latent_image"]
    parts = [inputs[name] for name in ("model", "positive", "negative", "sampler_name", "scheduler", "cfg", "seed")]
    targets = [drawn(latent.width, latent.height, parts, number) for number in range(latent.count)]
    finished = []
    for number, target in enumerate(targets):
        picture = target
        if latent.begin:
            begin = latent.begin[number]
            picture = Image.blend(begin, target, inputs["denoise"])
            if latent.mask is not None:
                picture = Image.composite(picture, begin, latent.mask)
        finished.append(picture)
    steps = inputs["steps"]
    for step in range(1, steps + 1):
        await asyncio.sleep(context.server.options.step_s)
        await context.progress(step, steps, finished[0])
    return Result((replace(latent, begin=tuple(finished)),))


async def decode(_: Context, inputs: Inputs) -> Result:
    """The pictures are there already; an empty latent is grey."""
    latent: Latent = inputs["samples"]
    grey = Image.new("RGB", (latent.width, latent.height), "grey")
    return Result((latent.begin or (grey,) * latent.count,))


def latent_of(pictures: tuple[Picture, ...]) -> Latent:
    """Return pictures as latents: cut to what these have."""
    width, height = (side // SCALE * SCALE for side in pictures[0].size)
    cut = tuple(picture.crop((0, 0, width, height)) for picture in pictures)
    return Latent(width, height, len(cut), cut)


async def encode(_: Context, inputs: Inputs) -> Result:
    """Keep the pictures."""
    return Result((latent_of(inputs["pixels"]),))


def masked(latent: Latent, mask: Picture) -> Latent:
    """Return latents that are painted only where the mask is white."""
    return replace(latent, mask=mask.convert("L").resize((latent.width, latent.height)))


async def encode_for_inpaint(_: Context, inputs: Inputs) -> Result:
    """Keep the pictures and the mask."""
    return Result((masked(latent_of(inputs["pixels"]), inputs["mask"]),))


async def set_mask(_: Context, inputs: Inputs) -> Result:
    """Keep the mask."""
    return Result((masked(inputs["samples"], inputs["mask"]),))


async def compose(_: Context, inputs: Inputs) -> Result:
    """Paint one picture over another where the mask is white."""
    composed = []
    for below, above in zip(inputs["destination"], inputs["source"], strict=True):
        mask = inputs["mask"].convert("L").resize(below.size)
        composed.append(Image.composite(above.convert("RGB").resize(below.size), below.convert("RGB"), mask))
    return Result((tuple(composed),))


async def skip_layers(_: Context, inputs: Inputs) -> Result:
    """A text encoder that stops early is another one."""
    clip = inputs["clip"]
    return Result((replace(clip, additions=(*clip.additions, f"skip:{inputs['stop_at_clip_layer']}")),))


def opened(context: Context, name: str) -> Picture:
    """Open an input file; Pillow's errors are the node's."""
    path = context.server.folders.annotated(name)
    with Image.open(path) as file:
        upright: Picture = ImageOps.exif_transpose(file)
        return upright.convert("RGBA")


async def load_image(context: Context, inputs: Inputs) -> Result:
    """A picture and its mask: transparent is white. Without transparency the mask is a black 64x64."""
    picture = opened(context, inputs["image"])
    alpha = picture.getchannel("A")
    mask = ImageOps.invert(alpha)
    if alpha.getextrema() == (255, 255):
        mask = Image.new("L", (64, 64), 0)
    return Result(((picture.convert("RGB"),), mask))


async def load_mask(context: Context, inputs: Inputs) -> Result:
    """One channel of a picture; alpha is turned round."""
    picture = opened(context, inputs["image"])
    channel = picture.getchannel({"alpha": "A", "red": "R", "green": "G", "blue": "B"}[inputs["channel"]])
    return Result((ImageOps.invert(channel) if inputs["channel"] == "alpha" else channel,))


async def save_image(context: Context, inputs: Inputs) -> Result:
    """Write PNG files into the output folder."""
    return Result(ui={"images": context.server.folders.save("output", inputs["filename_prefix"], inputs, context)})


async def preview_image(context: Context, inputs: Inputs) -> Result:
    """Write PNG files into the folder for temporary files."""
    prefix = f"ComfyUI_temp_{digest(context.node_id).hex()[:5]}"
    return Result(ui={"images": context.server.folders.save("temp", prefix, inputs, context)})


async def load_upscaler(_: Context, inputs: Inputs) -> Result:
    """An upscaler is its name."""
    return Result((inputs["model_name"],))


async def upscale(context: Context, inputs: Inputs) -> Result:
    """Four times as big."""
    await context.progress(1, 1)
    return Result((tuple(p.resize((p.width * 4, p.height * 4)) for p in inputs["image"]),))


async def scale(_: Context, inputs: Inputs) -> Result:
    """To a size; 0 keeps the shape."""
    result = []
    for picture in inputs["image"]:
        width, height = inputs["width"], inputs["height"]
        width = width or max(1, round(picture.width * height / picture.height)) if height else width
        height = height or max(1, round(picture.height * width / picture.width)) if width else height
        size = (width or picture.width, height or picture.height)
        fitted = picture.resize(size)
        if inputs["crop"] == "center":
            fitted = ImageOps.fit(picture, size)
        result.append(fitted)
    return Result((tuple(result),))


def check_file(folders: Folders, name: Any) -> bool | str:
    """Return True if an input file is there, wherever it lies. Raises TypeError for what is no name."""
    try:
        return folders.annotated(name).exists() or f"Invalid image file: {name}"
    except ValueError:
        # A zero byte.
        return f"Invalid image file: {name}"


def bytes_of(folders: Folders, inputs: Inputs) -> bytes:
    """Return the digest of an input file; another content is another picture. What cannot be read is never cached."""
    try:
        return digest(folders.annotated(inputs["image"]).read_bytes().hex())
    except OSError:
        return uuid.uuid4().bytes


def images(folders: Folders) -> list[str]:
    """Return the input files."""
    return folders.names("input")


def models(kind: str) -> Any:
    """Return a list that is looked up when it is asked for."""
    return lambda folders: folders.models(kind)


SIZES = {"width": whole(512, 16, MAX_SIZE, step=8), "height": whole(512, 16, MAX_SIZE, step=8)}
UPLOAD = (images, {"image_upload": True})

NODES |= {
    "KSampler": Node(
        sample,
        {
            "model": link("MODEL"),
            "seed": whole(0, 0, MAX_SEED, control_after_generate=True),
            "steps": whole(20, 1, 10000),
            "cfg": number(8.0, 0.0, 100.0, step=0.1, round=0.01),
            "sampler_name": (list(SAMPLERS), {}),
            "scheduler": (list(SCHEDULERS), {}),
            "positive": link("CONDITIONING"),
            "negative": link("CONDITIONING"),
            "latent_image": link("LATENT"),
            "denoise": number(1.0, 0.0, 1.0, step=0.01),
        },
        ("LATENT",),
        category="sampling",
    ),
    "CheckpointLoaderSimple": Node(
        load_checkpoint,
        {"ckpt_name": (models("checkpoints"), {})},
        ("MODEL", "CLIP", "VAE"),
        title="Load Checkpoint",
        category="loaders",
    ),
    "LoraLoader": Node(
        load_lora,
        {
            "model": link("MODEL"),
            "clip": link("CLIP"),
            "lora_name": (models("loras"), {}),
            "strength_model": number(1.0, -100.0, 100.0, step=0.01),
            "strength_clip": number(1.0, -100.0, 100.0, step=0.01),
        },
        ("MODEL", "CLIP"),
        title="Load LoRA",
        category="loaders",
    ),
    "CLIPTextEncode": Node(
        encode_text,
        {"text": ("STRING", {"multiline": True, "dynamicPrompts": True}), "clip": link("CLIP")},
        ("CONDITIONING",),
        title="CLIP Text Encode (Prompt)",
        category="conditioning",
    ),
    "EmptyLatentImage": Node(
        empty_latent,
        SIZES | {"batch_size": whole(1, 1, 4096)},
        ("LATENT",),
        title="Empty Latent Image",
        category="latent",
    ),
    "VAEDecode": Node(
        decode,
        {"samples": link("LATENT"), "vae": link("VAE")},
        ("IMAGE",),
        title="VAE Decode",
        category="latent",
    ),
    "VAEEncode": Node(
        encode,
        {"pixels": link("IMAGE"), "vae": link("VAE")},
        ("LATENT",),
        title="VAE Encode",
        category="latent",
    ),
    "VAEEncodeForInpaint": Node(
        encode_for_inpaint,
        {"pixels": link("IMAGE"), "vae": link("VAE"), "mask": link("MASK"), "grow_mask_by": whole(6, 0, 64, step=1)},
        ("LATENT",),
        title="VAE Encode (for Inpainting)",
        category="latent/inpaint",
    ),
    "SetLatentNoiseMask": Node(
        set_mask,
        {"samples": link("LATENT"), "mask": link("MASK")},
        ("LATENT",),
        title="Set Latent Noise Mask",
        category="latent/inpaint",
    ),
    "EmptyImage": Node(
        empty_image,
        {
            "width": whole(512, 1, MAX_SIZE, step=1),
            "height": whole(512, 1, MAX_SIZE, step=1),
            "batch_size": whole(1, 1, 4096),
            "color": whole(0, 0, 0xFFFFFF, step=1, display="color"),
        },
        ("IMAGE",),
        category="image",
    ),
    "ImageCompositeMasked": Node(
        compose,
        {
            "destination": link("IMAGE"),
            "source": link("IMAGE"),
            "x": whole(0, 0, MAX_SIZE),
            "y": whole(0, 0, MAX_SIZE),
            "resize_source": ("BOOLEAN", {"default": False}),
        },
        ("IMAGE",),
        optional={"mask": link("MASK")},
        title="Image Composite Masked",
        category="image",
        module="comfy_extras.nodes_mask",
    ),
    "CLIPSetLastLayer": Node(
        skip_layers,
        {"clip": link("CLIP"), "stop_at_clip_layer": whole(-1, -24, -1, step=1)},
        ("CLIP",),
        title="CLIP Set Last Layer",
        category="conditioning",
    ),
    "LoadImage": Node(
        load_image,
        {"image": UPLOAD},
        ("IMAGE", "MASK"),
        title="Load Image",
        category="image",
        checked="image",
        check=check_file,
        depends=bytes_of,
    ),
    "LoadImageMask": Node(
        load_mask,
        {"image": UPLOAD, "channel": (["alpha", "red", "green", "blue"], {})},
        ("MASK",),
        title="Load Image (as Mask)",
        category="mask",
        checked="image",
        check=check_file,
        depends=bytes_of,
    ),
    "SaveImage": Node(
        save_image,
        {"images": link("IMAGE"), "filename_prefix": ("STRING", {"default": "ComfyUI"})},
        hidden=HIDDEN,
        output_node=True,
        title="Save Image",
        category="image",
    ),
    "PreviewImage": Node(
        preview_image,
        {"images": link("IMAGE")},
        hidden=HIDDEN,
        output_node=True,
        title="Preview Image",
        category="image",
    ),
    "UpscaleModelLoader": Node(
        load_upscaler,
        # One of the newer kind.
        {"model_name": ("COMBO", {"multiselect": False, "options": models("upscale_models")})},
        ("UPSCALE_MODEL",),
        title="Load Upscale Model",
        category="loaders",
        module="comfy_extras.nodes_upscale_model",
    ),
    "ImageUpscaleWithModel": Node(
        upscale,
        {"upscale_model": link("UPSCALE_MODEL"), "image": link("IMAGE")},
        ("IMAGE",),
        title="Upscale Image (using Model)",
        category="image/upscaling",
        module="comfy_extras.nodes_upscale_model",
    ),
    "ImageScale": Node(
        scale,
        {
            "image": link("IMAGE"),
            "upscale_method": (METHODS, {}),
            "width": whole(512, 0, MAX_SIZE, step=1),
            "height": whole(512, 0, MAX_SIZE, step=1),
            "crop": (["disabled", "center"], {}),
        },
        ("IMAGE",),
        title="Upscale Image",
        category="image/upscaling",
    ),
}
