"""From a spec to its items: each one's request, seed and file name, the same at every call."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any

from graycat.batches.spec import Spec, filenames
from graycat.batches.spec.images import MAX_SEED, Body, Seeds

#: What the engine takes where a request does not say.
WIDTH, HEIGHT, STEPS = 512, 512, 50


@dataclass(frozen=True, slots=True)
class Item:
    """One image to make. ``number`` counts from 1; ``file`` is its name without its end.

    ``request`` is what the engine gets.
    """

    number: int
    file: str
    request: Body

    @property
    def prompt(self) -> str:
        """Return its prompt."""
        return str(self.request.get("prompt", ""))

    @property
    def seed(self) -> int:
        """Return its seed."""
        return int(self.request["seed"])

    @property
    def kind(self) -> str:
        """Return the kind of its task."""
        return "sd.img2img" if self.request.get("init_images") else "sd.txt2img"

    @property
    def work(self) -> float:
        """Return how much work it is, in megapixels times steps."""
        return work_of(self.request)

    @property
    def digest(self) -> str:
        """Return a name for the request."""
        return digest_of(self.request)

    def encoded(self) -> str:
        """Return what the batch's plan holds."""
        return json.dumps(asdict(self))

    @classmethod
    def from_record(cls, text: bytes | str) -> Item:
        """Return the item that a plan holds."""
        return cls(**json.loads(text))


def digest_of(request: Body) -> str:
    """Return a name for what an engine is asked: the same again makes the same image."""
    return sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()


def work_of(request: Body) -> float:
    """Return how much work a request is, in megapixels times steps: a measure to compare images of one engine by."""
    width, height = _number(request, "width", WIDTH), _number(request, "height", HEIGHT)
    steps = _number(request, "steps", STEPS)
    work = width * height * steps / 1e6
    if str(request.get("enable_hr", "")).lower() in ("true", "1", "on"):
        scale = _number(request, "hr_scale", 2.0)
        work += width * height * scale * scale * (_number(request, "hr_second_pass_steps", 0) or steps) / 1e6
    return max(work, 1e-6)


def expand(spec: Spec, batch: str, entropy: str, prompts: Sequence[str] = ()) -> list[Item]:
    """Return all items of a batch.

    ``entropy`` is what random seeds come from, '' leaves them open; ``prompts`` are those that were asked for.
    """
    images = spec.images
    bodies = (
        [body | {"prompt": prompt} for body in images.bodies for prompt in prompts] if images.ask else images.bodies
    )
    items: list[Item] = []
    taken: set[str] = set()
    width = len(str(max(len(bodies) * images.count, 1)))
    for body in bodies:
        for variation in range(images.count):
            number = len(items) + 1
            request = body | {"seed": _seed(body, images.seeds, number, variation, entropy)}
            values = _values(request, spec, batch, variation)
            file = _unique(
                filenames.filled(filenames.stem(spec.terms.pattern), values | _padded(number, width)), number, taken
            )
            items.append(Item(number, file, request))
    return items


def _padded(number: int, width: int) -> dict[str, Any]:
    # As text it keeps its zeros; a pattern with a width of its own asks for the number.
    return {"item": PaddedInt(number, width)}


class PaddedInt(int):
    """A number that is written with as many digits as the last one of its batch, where nothing else is said."""

    width: int

    def __new__(cls, value: int, width: int) -> PaddedInt:
        """Return the number."""
        self = super().__new__(cls, value)
        self.width = width
        return self

    def __format__(self, spec: str) -> str:
        return format(int(self), f"0{self.width}d" if spec in ("", "d") else spec)


def _seed(body: Body, seeds: Seeds, number: int, variation: int, entropy: str) -> int:
    own = body.get("seed", -1)
    if own >= 0:
        # As the engine counts on for several images of one request.
        seed = own + variation
    elif seeds.policy == "fixed":
        seed = seeds.seed + variation
    elif seeds.policy == "per_item":
        seed = seeds.seed + number - 1
    elif not entropy:
        return -1
    else:
        seed = int.from_bytes(sha256(f"{entropy}/{number}".encode()).digest()[:4])
    return int(seed % (MAX_SEED + 1))


def _values(request: Body, spec: Spec, batch: str, variation: int) -> dict[str, Any]:
    fields = {name: value for name, value in request.items() if isinstance(value, (str, int, float))}
    # Not drawn yet.
    fields |= {"seed": "random"} if request["seed"] < 0 else {}
    fields |= {"batch": batch, "name": spec.name, "variation": variation + 1}
    defaults = {"width": WIDTH, "height": HEIGHT, "steps": STEPS}
    return defaults | fields | {"prompt_slug": filenames.slug(str(request.get("prompt", "")))}


def _unique(file: str, number: int, taken: set[str]) -> str:
    """Return a name that no other item has, on a file system that takes capitals for small letters either."""
    while file.casefold() in taken:
        file = f"{file}-{number}"
    taken.add(file.casefold())
    return file


def _number(request: Body, field: str, default: float) -> float:
    try:
        return float(request.get(field) or default)
    except (TypeError, ValueError):
        return default
