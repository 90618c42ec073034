"""Expands a spec into the items of a batch: the request, seed and file name of each, the same at every call."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from graycat.batches.labels import Labels
from graycat.batches.spec import Spec, filenames
from graycat.batches.spec.images import MAX_SEED, Body, Seeds
from graycat.bounds.stored import parse_json
from graycat.images.habits import SAFE_SEEDS

#: The engine's defaults for requests that leave these fields out.
DEFAULT_WIDTH, DEFAULT_HEIGHT, DEFAULT_STEPS = 512, 512, 50


@dataclass(frozen=True, slots=True)
class Item:
    """One image to make.

    ``number`` counts from 1; ``file`` is the file's name without its extension; ``request`` is the engine's request;
    ``label`` shows the values in which the batch's items differ, '' in plans of earlier releases.
    """

    number: int
    file: str
    request: Body
    label: str = ""

    @property
    def prompt(self) -> str:
        """Return the item's prompt."""
        return str(self.request.get("prompt", ""))

    @property
    def seed(self) -> int:
        """Return the item's seed; -1 if the engine chooses it."""
        return int(self.request["seed"])

    @property
    def kind(self) -> str:
        """Return the kind of the item's task."""
        return "sd.img2img" if self.request.get("init_images") else "sd.txt2img"

    @property
    def work(self) -> float:
        """Return how much work the item is, in megapixels times steps."""
        return estimate_work(self.request)

    @property
    def digest(self) -> str:
        """Return the digest of the request."""
        return digest_request(self.request)

    def to_json(self) -> str:
        """Return the item as the batch's plan holds it."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: bytes | str) -> Item:
        """Return the item that a plan holds."""
        values = parse_json(text)
        return cls(int(values["number"]), str(values["file"]), dict(values["request"]), str(values.get("label", "")))


def digest_request(request: Body) -> str:
    """Return a digest of an engine's request. Two requests with the same digest make the same image."""
    return sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def estimate_work(request: Body) -> float:
    """Return how much work a request is, in megapixels times steps. It compares images of one engine."""
    width = _read_number(request, "width", DEFAULT_WIDTH)
    height = _read_number(request, "height", DEFAULT_HEIGHT)
    steps = _read_number(request, "steps", DEFAULT_STEPS)
    work = width * height * steps / 1e6
    if str(request.get("enable_hr", "")).lower() in ("true", "1", "on"):
        # The second pass ("hires fix") renders the image again, enlarged.
        scale = _read_number(request, "hr_scale", 2.0)
        second_pass_steps = _read_number(request, "hr_second_pass_steps", 0) or steps
        work += width * height * scale * scale * second_pass_steps / 1e6
    return max(work, 1e-6)


def expand(
    spec: Spec, batch_id: str, entropy: str, prompts: Sequence[str] = (), seeds_below: int = SAFE_SEEDS
) -> list[Item]:
    """Return all items of a batch.

    Random seeds are derived from ``entropy``, each below ``seeds_below``; if it is '', the engine chooses them.
    ``prompts`` are those that a text engine has written for the batch.
    """
    images = spec.images
    bodies: Sequence[Body] = images.bodies
    if images.prompt_request:
        bodies = [body | {"prompt": prompt} for body in images.bodies for prompt in prompts]

    items: list[Item] = []
    used_names: set[str] = set()
    digits = len(str(max(len(bodies) * images.count, 1)))
    pattern = filenames.strip_extension(spec.options.pattern)
    labels = Labels(bodies)
    for body in bodies:
        for variation in range(images.count):
            number = len(items) + 1
            request = body | {"seed": _choose_seed(body, images.seeds, number, variation, entropy, seeds_below)}
            values = _filename_values(request, spec, batch_id, variation)
            values["item"] = PaddedInt(number, digits)
            values["varied"] = labels.slug(body)
            file = _unique_name(filenames.fill_pattern(pattern, values), number, used_names)
            items.append(Item(number, file, spec.to_request(request), labels.label(body)))
    return items


class PaddedInt(int):
    """A number that is formatted with leading zeros to ``width`` digits, unless the format names another width."""

    width: int

    def __new__(cls, value: int, width: int) -> PaddedInt:
        """Return the number."""
        self = super().__new__(cls, value)
        self.width = width
        return self

    def __format__(self, spec: str) -> str:
        if spec in ("", "d"):
            spec = f"0{self.width}d"
        return format(int(self), spec)


def _choose_seed(body: Body, seeds: Seeds, number: int, variation: int, entropy: str, seeds_below: int) -> int:
    own = body.get("seed", -1)
    if own >= 0:
        # The engine counts the same way for several images of one request.
        return _count_on(own, variation)
    if seeds.policy == "fixed":
        return _count_on(seeds.seed, variation)
    if seeds.policy == "per_item":
        return _count_on(seeds.seed, number - 1)
    if not entropy:
        return -1
    return int.from_bytes(sha256(f"{entropy}/{number}".encode()).digest()[:4]) % seeds_below


def _count_on(first: int, further: int) -> int:
    """Return the seed that is ``further`` behind the first; both are below 2**31 if the first one is."""
    below = MAX_SEED + 1
    if first < SAFE_SEEDS:
        below = SAFE_SEEDS
    return (first + further) % below


def _filename_values(request: Body, spec: Spec, batch_id: str, variation: int) -> dict[str, Any]:
    """Return the values that a file name's pattern may use."""
    values: dict[str, Any] = {"width": DEFAULT_WIDTH, "height": DEFAULT_HEIGHT, "steps": DEFAULT_STEPS}
    for name, value in request.items():
        if isinstance(value, (str, int, float)):
            values[name] = value
    if request["seed"] < 0:
        # The engine has not chosen it yet.
        values["seed"] = "random"
    values["batch"] = batch_id
    values["name"] = spec.name
    values["variation"] = variation + 1
    values["prompt_slug"] = filenames.slugify(str(request.get("prompt", "")))
    return values


def _unique_name(file: str, number: int, used_names: set[str]) -> str:
    """Return a name that no other item has, on a case-insensitive file system either."""
    while file.casefold() in used_names:
        file = f"{file}-{number}"
    used_names.add(file.casefold())
    return file


def _read_number(request: Body, field: str, default: float) -> float:
    try:
        return float(request.get(field) or default)
    except (TypeError, ValueError):
        return default
