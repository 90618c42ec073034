"""The images that a batch asks for: a list, a matrix, or prompts that a text engine writes; each field checked."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from graycat import params
from graycat.batches.spec.reader import Problems, Reader
from graycat.errors import GraycatError, RequestError
from graycat.images import webui_requests
from graycat.settings import Settings

Body = dict[str, Any]

IMAGE_FIELDS = ("defaults", "items", "matrix", "prompts", "count", "seeds")
#: Axes of a matrix that are called by their plural, as one speaks of them.
PLURALS = {"prompts": "prompt", "seeds": "seed", "sizes": "size", "negative_prompts": "negative_prompt"}
POLICIES = ("random", "fixed", "per_item")
MAX_SEED = 2**32 - 1
MAX_ASKED = 500
ASK_FIELDS = ("ask", "count", "temperature", "seed", "model")
#: What asks for several images at once: an item is one file.
_SEVERAL = ("batch_size", "n_iter")
_SIZE = re.compile(r"(\d{1,5})\s*[x*]\s*(\d{1,5})", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Ask:
    """What a text engine is asked for before the images: so many prompts."""

    ask: str
    count: int
    temperature: float = 0.9
    seed: int | None = None
    model: str = ""


@dataclass(frozen=True, slots=True)
class Seeds:
    """How items that name no seed get theirs."""

    policy: str = "random"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Images:
    """``bodies``: what is asked of the engine, one each; times ``count``, and the prompts still to be written."""

    bodies: tuple[Body, ...]
    count: int
    seeds: Seeds
    ask: Ask | None

    @property
    def total(self) -> int:
        """Return how many images that are."""
        return len(self.bodies) * self.count * (self.ask.count if self.ask else 1)


def read(reader: Reader, settings: Settings, most_pixels: int | None) -> Images | None:
    """Return the images in a document; what is wrong is noted, and None returned where nothing can be made of it."""
    problems = reader.problems
    check = Check(settings, most_pixels, problems)
    defaults = reader.take("defaults")
    if defaults is not None and not isinstance(defaults, dict):
        problems.note("defaults", "must be an object of the engine's fields")
    defaults = _sized(defaults if isinstance(defaults, dict) else {}, "defaults", problems)
    items, matrix = reader.take("items"), reader.take("matrix")
    ask = _ask(reader)
    count = reader.count("count", 1, settings.batch_max_items, 1) or 1
    seeds = _seeds(reader, defaults)
    check.fields("defaults", defaults)
    # From here on a seed is the item's own.
    defaults = {name: value for name, value in defaults.items() if name != "seed"}
    if items is not None:
        if matrix is not None or ask is not None:
            problems.note("items", "stands alone: leave 'matrix' and 'prompts' out, or make it a matrix")
        bodies = _listed(items, defaults, check)
    elif matrix is not None or ask is not None:
        bodies = _crossed(matrix if matrix is not None else {}, defaults, ask, check)
    else:
        problems.note("items", "is required, or 'matrix', or 'prompts'")
        return None
    found = Images(tuple(bodies), count, seeds, ask)
    if found.total > settings.batch_max_items:
        problems.note("", f"asks for {found.total} images; a batch may have {settings.batch_max_items}")
    return found if bodies else None


class Check:
    """Checks bodies as those of requests are, and finds which field is at fault."""

    def __init__(self, settings: Settings, most_pixels: int | None, problems: Problems) -> None:
        self._settings = settings
        self._most_pixels = most_pixels
        self.problems = problems
        self._told: set[str] = set()
        #: Bodies are not looked at any more where there are too many.
        self.most = settings.batch_max_items

    def whole(self, path: str, given: Body, defaults: Body, *, asked: bool = False) -> Body | None:
        """Return the body of an item as the engine may have it; where it may not, note why."""
        body = defaults | given
        if not asked and not isinstance(body.get("prompt"), str):
            self.problems.note(path, "has no prompt; give it 'prompt', or put one into 'defaults'")
            return None
        try:
            return self._checked(body)
        except GraycatError as error:
            # A fault of the defaults was told already, as one of theirs; that of a combination is told once.
            if not self.fields(path, given) and str(error) not in self._told:
                self._told.add(str(error))
                self.problems.note(path, str(error))
            return None

    def fields(self, path: str, given: Body) -> bool:
        """Note which fields of an object are at fault by themselves; tell whether any is."""
        bad = [name for name, value in given.items() if not self.field(f"{path}.{name}", name, value)]
        return bool(bad)

    def field(self, path: str, name: str, value: Any) -> bool:
        """Tell whether a field is good by itself; note why where it is not."""
        try:
            # The smallest image, so that its size is no fault of the field's.
            self._checked(
                {"width": webui_requests.MIN_SIDE, "height": webui_requests.MIN_SIDE, name: value}, limited=False
            )
        except GraycatError as error:
            self._told.add(str(error))
            self.problems.note(path, str(error))
            return False
        return True

    def _checked(self, body: Body, *, limited: bool = True) -> Body:
        for name in _SEVERAL:
            if str(body.get(name, 1)) != "1":
                raise RequestError(f"'{name}' must be 1: an item is one image; 'count' makes more of each")
        seed = body.get("seed", -1)
        if isinstance(seed, bool) or not isinstance(seed, int) or not -1 <= seed <= MAX_SEED:
            raise RequestError(f"'seed' must be a whole number up to {MAX_SEED}, or -1 for any")
        params.check_size(body, self._settings.max_prompt_chars)
        return webui_requests.generation(body, self._settings, self._most_pixels if limited else None)


def _listed(items: Any, defaults: Body, check: Check) -> list[Body]:
    if not isinstance(items, list) or not items:
        check.problems.note(
            "items", "must be a list of objects or prompts; a file is read by 'graycat batch', not here"
        )
        return []
    if len(items) > check.most:
        check.problems.note("items", f"has {len(items)} items; a batch may have {check.most}")
        return []
    bodies = []
    for place, item in enumerate(items):
        path = f"items[{place}]"
        given = {"prompt": item} if isinstance(item, str) else item
        if not isinstance(given, dict):
            check.problems.note(path, "must be an object of the engine's fields, or a prompt")
            continue
        bodies.append(check.whole(path, _sized(given, path, check.problems), defaults))
    return [body for body in bodies if body is not None]


def _crossed(matrix: Any, defaults: Body, ask: Ask | None, check: Check) -> list[Body]:
    axes = _axes(matrix, check)
    if axes is None:
        return []
    if ask is not None and "prompt" in axes:
        check.problems.note("matrix.prompt", "is what 'prompts' has written: leave one of them out")
    sizes = 1
    for values in axes.values():
        sizes *= len(values)
    if sizes > check.most:
        check.problems.note("matrix", f"has {sizes} combinations; a batch may have {check.most}")
        return []
    good = True
    for name, values in axes.items():
        for place, value in enumerate(values):
            path = f"matrix.{name}[{place}]"
            given = _sized({name: value}, path, check.problems) if name == "size" else {name: value}
            good = all([check.field(path, key, one) for key, one in given.items()]) and good
    return list(_combined(axes, defaults, check, asked=ask is not None)) if good else []


def _combined(axes: dict[str, list[Any]], defaults: Body, check: Check, *, asked: bool) -> Iterator[Body]:
    # Each value is good by itself: what is wrong now is wrong with the combination.
    for values in itertools.product(*axes.values()):
        given = _sized(dict(zip(axes, values, strict=True)), "matrix", check.problems)
        if (body := check.whole("matrix", given, defaults, asked=asked)) is not None:
            yield body


def _axes(matrix: Any, check: Check) -> dict[str, list[Any]] | None:
    if not isinstance(matrix, dict):
        check.problems.note("matrix", "must be an object: each field with the list of its values")
        return None
    axes: dict[str, list[Any]] = {}
    for name, values in matrix.items():
        if not isinstance(values, list) or not values:
            check.problems.note(f"matrix.{name}", "must be a list of values")
            return None
        axes[PLURALS.get(str(name), str(name))] = values
    return axes


def _sized(body: Body, path: str, problems: Problems) -> Body:
    """Return a body whose ``size`` (``512x768``) has become width and height."""
    if "size" not in body:
        return body
    found = _SIZE.fullmatch(str(body["size"]))
    if found is None:
        problems.note(f"{path}.size", "must be like 512x768")
        return {name: value for name, value in body.items() if name != "size"}
    rest = {name: value for name, value in body.items() if name != "size"}
    return rest | {"width": int(found[1]), "height": int(found[2])}


def _ask(reader: Reader) -> Ask | None:
    part = reader.part("prompts", wrap="ask")
    if part is None:
        return None
    ask = part.text("ask", most=4000, lines=True)
    if not ask:
        part.problems.note(part.path("ask"), "is required: what the text engine is to write")
    count = part.count("count", 1, MAX_ASKED)
    if count is None:
        part.problems.note(part.path("count"), f"is required: how many prompts, up to {MAX_ASKED}")
    temperature = part.take("temperature")
    if temperature is None:
        temperature = 0.9
    elif isinstance(temperature, bool) or not isinstance(temperature, (int, float)) or not 0 <= temperature <= 5:
        part.problems.note(part.path("temperature"), "must be a number from 0 to 5")
        temperature = 0.9
    seed, model = part.count("seed", 0, MAX_SEED), part.text("model")
    part.end(ASK_FIELDS)
    return Ask(ask, count or 1, float(temperature), seed, model)


def _seeds(reader: Reader, defaults: Body) -> Seeds:
    part = reader.part("seeds", wrap="policy")
    usual = defaults.get("seed", -1)
    usual = usual if isinstance(usual, int) and usual >= 0 else None
    if part is None:
        return Seeds("random") if usual is None else Seeds("fixed", usual)
    policy = part.text("policy", POLICIES[0]).replace("-", "_").replace(" ", "_")
    if policy not in POLICIES:
        part.problems.note(part.path("policy"), f"must be one of {', '.join(POLICIES)}")
    seed = part.count("seed", 0, MAX_SEED, usual)
    if policy in ("fixed", "per_item") and seed is None:
        part.problems.note(part.path("seed"), f"is required where the policy is {policy}")
    part.end(("policy", "seed"))
    return Seeds(policy, seed or 0)
