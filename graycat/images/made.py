"""What a picture says of how it was made: its own text tells the seed, the sampler and the size that the engine used.

What was asked is no proof: sd-server replaces seeds from 2**31 on, A1111 an unknown sampler, and both without a word.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from typing import Any

from PIL import Image

from graycat.bounds.stored import parse_json
from graycat.images import infotext
from graycat.images.engine_names import AUTOMATIC, fold

Body = dict[str, Any]
#: ``{"field", "asked", "made", "message"}``: how a result is unlike its request.
Difference = dict[str, Any]

#: The formats whose texts are read; that decodes no pixels.
FORMATS = ("PNG", "JPEG", "WEBP")
_EXTENSION = re.compile(r"\.(?:safetensors|ckpt|gguf|pth?|sft)$")
_MARKS = re.compile(r"[\W_]+")


@dataclass(frozen=True)
class Made:
    """What one picture tells. None, or '', stands for what it does not tell. ``width``, ``height``: its own pixels."""

    text: str = ""
    prompt: str = ""
    negative_prompt: str = ""
    seed: int | None = None
    steps: int | None = None
    cfg_scale: float | None = None
    sampler: str = ""
    scheduler: str = ""
    model: str = ""
    model_hash: str = ""
    width: int | None = None
    height: int | None = None


def read_made(data: bytes) -> Made:
    """Return what an image file tells of itself; nothing if it is no image that can be read."""
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            width, height = image.size
            text, _ = infotext.read(image)
    # Whatever Pillow raises for a file that is damaged.
    except Exception:  # noqa: BLE001
        return Made()
    if not text:
        return Made(width=width, height=height)
    parsed = infotext.parse(text)
    own = _read_sdcpp(parsed.get(infotext.SDCPP))
    return Made(
        text=text,
        prompt=str(parsed.get("Prompt", "")),
        negative_prompt=str(parsed.get("Negative prompt", "")),
        seed=_int(own.get("seed", parsed.get("Seed"))),
        steps=_int(parsed.get("Steps")),
        cfg_scale=_float(parsed.get("CFG scale")),
        sampler=str(own.get("sampler") or parsed.get("Sampler", "")),
        scheduler=str(own.get("scheduler") or parsed.get("Schedule type", "")),
        model=str(parsed.get("Model") or own.get("model") or ""),
        model_hash=str(parsed.get("Model hash", "")),
        width=width,
        height=height,
    )


def _read_sdcpp(text: Any) -> Body:
    """Return seed, sampler and model of the JSON in sd-server's text (schema ``sdcpp.image.params/v1``)."""
    try:
        values = parse_json(text)
    except (ValueError, TypeError):
        return {}
    if not isinstance(values, dict):
        return {}
    found: Body = {"seed": values.get("seed")}
    sampling, models = values.get("sampling"), values.get("models")
    if isinstance(sampling, dict):
        found |= {"sampler": sampling.get("method"), "scheduler": sampling.get("scheduler")}
    if isinstance(models, dict):
        found["model"] = models.get("model") or models.get("diffusion_model")
    return found


def _int(value: Any) -> int | None:
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _float(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def compare(asked: Body, pictures: list[Made]) -> list[Difference]:
    """Return how the pictures of a render are unlike what was asked, by their own texts and sizes.

    ``asked``: the body of the request. What is not told, and what was left to the engine, is not compared.
    """
    if not pictures:
        return []
    warnings: dict[str, Difference] = {}
    wanted_count = (_int(asked.get("batch_size", 1)) or 1) * (_int(asked.get("n_iter", 1)) or 1)
    # Behind the wanted ones stand those of scripts: the maps that ControlNet has seen, for example.
    for index, made in enumerate(pictures[: max(wanted_count, 1)]):
        for field, wanted, found in _compare_one(asked, made, index):
            # One warning for each field, of the first picture that is unlike: a request may have a thousand of them.
            warnings.setdefault(field, differs(field, wanted, found, index))
    if len(pictures) < wanted_count:
        warnings["batch_size"] = differs("batch_size", wanted_count, len(pictures))
    return list(warnings.values())


def _compare_one(asked: Body, made: Made, index: int) -> Iterator[tuple[str, Any, Any]]:
    """Yield field, asked and made of what is unlike in one picture. ``index``: its place in the answer, from 0."""
    for field, wanted, found in (
        ("seed", _asked_seed(asked, index), made.seed),
        ("steps", _int(asked.get("steps")), made.steps),
        ("size", _asked_size(asked), _size(made)),
    ):
        if wanted is not None and found is not None and found != wanted:
            yield field, wanted, found
    sampler = asked.get("sampler_name")
    if isinstance(sampler, str) and made.sampler and not _is_sampler(sampler, made):
        yield "sampler_name", sampler, made.sampler
    scheduler = asked.get("scheduler")
    if isinstance(scheduler, str) and made.scheduler and not _is_same(scheduler, made.scheduler):
        yield "scheduler", scheduler, made.scheduler
    checkpoint = _asked_checkpoint(asked)
    if checkpoint and made.model and not _is_model(checkpoint, made):
        yield "model", checkpoint, made.model


def differs(field: str, asked: Any, made: Any, index: int = 0) -> Difference:
    """Return the warning that a field is not as it was asked for. ``index``: the picture's place, from 0."""
    which = f"image {index + 1}" if index else "this"
    return {
        "field": field,
        "asked": asked,
        "made": made,
        "message": f"the engine made {which} with another {field} than was asked for: {made!r}, not {asked!r}",
    }


def _asked_seed(asked: Body, index: int) -> int | None:
    """Return the seed of an image; None if the engine was to choose it, or if a script may change it.

    Each image has the next seed, as in a WebUI's ``all_seeds``; with a variation (``subseed_strength``) the next
    subseed instead.
    """
    seed = _int(asked.get("seed", -1))
    if seed is None or seed < 0 or asked.get("script_name"):
        return None
    if _float(asked.get("subseed_strength")):
        return seed
    return seed + index


def _asked_size(asked: Body) -> str | None:
    """Return the size that a text-to-image without a second pass has; None for others: they have rules of their own."""
    if asked.get("enable_hr") or asked.get("init_images") or asked.get("script_name"):
        return None
    width, height = _int(asked.get("width")), _int(asked.get("height"))
    if width is None or height is None:
        return None
    return f"{width}x{height}"


def _size(made: Made) -> str | None:
    if made.width is None:
        return None
    return f"{made.width}x{made.height}"


def _is_sampler(name: str, made: Made) -> bool:
    """Return whether a picture was made with a sampler. Old WebUIs name the scheduler behind it."""
    wanted, sampler = fold(name), fold(made.sampler)
    return (
        wanted in ("", "automatic", "default")
        or sampler in (wanted, wanted + fold(made.scheduler))
        or (sampler + fold(made.scheduler) == wanted)
    )


def _is_same(scheduler: str, made: str) -> bool:
    return fold(scheduler) in (*AUTOMATIC, fold(made))


def _asked_checkpoint(asked: Body) -> str:
    """Return the checkpoint that was asked for; '' if it was left to the engine, or if a refiner takes over."""
    overrides = asked.get("override_settings")
    if not isinstance(overrides, dict) or asked.get("script_name") or asked.get("refiner_checkpoint"):
        return ""
    checkpoint = overrides.get("sd_model_checkpoint")
    return checkpoint if isinstance(checkpoint, str) else ""


def _is_model(checkpoint: str, made: Made) -> bool:
    """Return whether a picture was made with a checkpoint: by its hash if both are known, else by its file's name.

    A title is ``folder/file.safetensors [hash]``. Pictures have the file's name without folder and extension, and
    without some marks.
    """
    title, _, tail = checkpoint.partition(" [")
    if tail and made.model_hash:
        return tail.rstrip("]").lower() == made.model_hash.lower()
    if made.model_hash and title.lower() == made.model_hash.lower():
        return True
    return _bare_name(title) == _bare_name(made.model)


def _bare_name(title: str) -> str:
    file = title.replace("\\", "/").rpartition("/")[2].lower()
    return _MARKS.sub("", _EXTENSION.sub("", file))


def complete_info(info: Any, pictures: list[Made]) -> Any:
    """Return a render's ``info`` as a string of JSON, as a WebUI's is.

    sd-server's is empty, and is filled with what its pictures tell; xinference's is an object.
    """
    if isinstance(info, dict):
        return json.dumps(_describe(pictures) | info)
    if info not in ("", None) or not any(made.text for made in pictures):
        return info
    return json.dumps(_describe(pictures))


def _describe(pictures: list[Made]) -> Body:
    if not pictures or not pictures[0].text:
        return {}
    first = pictures[0]
    return {
        "prompt": first.prompt,
        "all_prompts": [made.prompt for made in pictures],
        "negative_prompt": first.negative_prompt,
        "all_negative_prompts": [made.negative_prompt for made in pictures],
        "seed": first.seed,
        "all_seeds": [made.seed for made in pictures],
        "width": first.width,
        "height": first.height,
        "sampler_name": first.sampler,
        "steps": first.steps,
        "cfg_scale": first.cfg_scale,
        "batch_size": len(pictures),
        "sd_model_name": first.model,
        "index_of_first_image": 0,
        "infotexts": [made.text for made in pictures],
    }
