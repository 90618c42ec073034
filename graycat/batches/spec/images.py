"""The images of a spec: a list, a matrix, or prompts that a text engine writes. Checks every field."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from graycat import params
from graycat.batches.spec.reader import FieldReader, Problems
from graycat.bounds.names import MAX_CHARS
from graycat.errors import GraycatError, RequestError
from graycat.images import webui_requests
from graycat.images.fields import GENERATION_FIELDS, MEANT
from graycat.settings import Settings

Body = dict[str, Any]

IMAGE_FIELDS = ("defaults", "items", "matrix", "prompts", "count", "seeds")
#: A field of graycat's own: width and height in one.
SIZE = "size"
#: Axes of a matrix may have a plural name.
PLURALS = {"prompts": "prompt", "seeds": "seed", "sizes": "size", "negative_prompts": "negative_prompt"}
SEED_POLICIES = ("random", "fixed", "per_item")
MAX_SEED = 2**32 - 1
#: Prompts that a text engine may be asked for.
MAX_WRITTEN_PROMPTS = 500
DEFAULT_TEMPERATURE = 0.9
PROMPT_REQUEST_FIELDS = ("ask", "count", "temperature", "seed", "model")
#: Fields that ask an engine for several images at once. They must be 1, because an item is one file.
_IMAGE_COUNT_FIELDS = ("batch_size", "n_iter")
_SIZE = re.compile(r"(\d{1,5})\s*[x*]\s*(\d{1,5})", re.ASCII | re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class PromptRequest:
    """Asks a text engine to write ``count`` prompts before the images are made. ``text``: what they are about."""

    text: str
    count: int
    temperature: float = DEFAULT_TEMPERATURE
    seed: int | None = None
    model: str = ""


@dataclass(frozen=True, slots=True)
class Seeds:
    """How items without a seed get one."""

    policy: str = "random"
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Images:
    """The images of a spec: each of ``bodies`` (requests to the engine) ``count`` times, with each written prompt."""

    bodies: tuple[Body, ...]
    count: int
    seeds: Seeds
    prompt_request: PromptRequest | None

    @property
    def total(self) -> int:
        """Return the number of images."""
        total = len(self.bodies) * self.count
        if self.prompt_request:
            total *= self.prompt_request.count
        return total


def read_images(
    reader: FieldReader,
    settings: Settings,
    token_max_pixels: int | None,
    own_names: frozenset[str] | None = frozenset(),
) -> Images | None:
    """Return the images in a document; None if there are none. Problems are added to the reader's.

    ``own_names``: fields of the caller's own that its items may have, for the names of its files; None: any.
    """
    problems = reader.problems
    checker = BodyChecker(settings, token_max_pixels, problems, own_names)
    defaults = _read_defaults(reader, checker)
    items = reader.take("items")
    matrix = reader.take("matrix")
    prompt_request = _read_prompt_request(reader)
    count = reader.read_count("count", 1, settings.batch_max_items, 1) or 1
    seeds = _read_seeds(reader, defaults)
    checker.check_each_field("defaults", defaults)
    # The default seed is in ``seeds`` now. A seed in a body is always the item's own.
    defaults.pop("seed", None)

    if items is not None:
        if matrix is not None or prompt_request is not None:
            problems.add("items", "cannot be combined with 'matrix' or 'prompts': leave those out, or use a matrix")
        bodies = _read_items(items, defaults, checker)
    elif matrix is not None or prompt_request is not None:
        bodies = _read_matrix({} if matrix is None else matrix, defaults, prompt_request, checker)
    else:
        problems.add("items", "is required, or 'matrix', or 'prompts'")
        return None

    images = Images(tuple(bodies), count, seeds, prompt_request)
    if images.total > settings.batch_max_items:
        problems.add("", f"asks for {images.total} images; a batch may have {settings.batch_max_items}")
    if not bodies:
        return None
    return images


class BodyChecker:
    """Checks bodies as those of single requests are checked, and finds the field that is at fault."""

    def __init__(
        self,
        settings: Settings,
        token_max_pixels: int | None,
        problems: Problems,
        own_names: frozenset[str] | None = frozenset(),
    ) -> None:
        self._settings = settings
        self._token_max_pixels = token_max_pixels
        self.problems = problems
        #: The names of fields that a body may have; None: any.
        self._names: frozenset[str] | None = None
        if own_names is not None:
            self._names = GENERATION_FIELDS | {SIZE} | webui_requests.split_names(settings.sd_fields) | own_names
        self._reported: set[str] = set()
        #: If a spec has more bodies than this, none is checked.
        self.max_bodies = settings.batch_max_items

    def check_names(self, path: str, fields: Body, plurals: Mapping[str, str] = MappingProxyType({})) -> bool:
        """Return whether engines know all fields by their names; add the problem of each that they do not.

        ``plurals``: other names that are as good.
        """
        if self._names is None:
            return True
        known = self._names | plurals.keys()
        valid = True
        for name in fields:
            if name not in known:
                valid = False
                self.problems.add_unknown(f"{path}.{name[:MAX_CHARS]}", name, known, MEANT)
        return valid

    def check_body(self, path: str, own: Body, defaults: Body, *, prompt_follows: bool = False) -> Body | None:
        """Return an item's body as it may be sent to the engine. If it is invalid, add the problem and return None.

        ``own``: the item's own fields. ``prompt_follows``: a text engine writes the prompt later.
        """
        body = defaults | own
        if not prompt_follows and not isinstance(body.get("prompt"), str):
            self.problems.add(path, "has no prompt; give it 'prompt', or put one into 'defaults'")
            return None
        try:
            return self._check(body, self._token_max_pixels)
        except GraycatError as error:
            # A problem of a default was reported as one of the defaults; that of a combination is reported once.
            if self.check_each_field(path, own) and str(error) not in self._reported:
                self._reported.add(str(error))
                self.problems.add(path, str(error))
            return None

    def check_each_field(self, path: str, fields: Body) -> bool:
        """Check each field by itself and add its problem; return whether all are valid."""
        valid = True
        for name, value in fields.items():
            if not self.check_field(f"{path}.{name}", name, value):
                valid = False
        return valid

    def check_field(self, path: str, name: str, value: Any) -> bool:
        """Return whether a field is valid by itself; add its problem if not."""
        # With the smallest size, no field is refused because of the image's size.
        body = {"width": webui_requests.MIN_SIDE, "height": webui_requests.MIN_SIDE}
        body[name] = value
        try:
            self._check(body, None)
        except GraycatError as error:
            self._reported.add(str(error))
            self.problems.add(path, str(error))
            return False
        return True

    def _check(self, body: Body, token_max_pixels: int | None) -> Body:
        for name in _IMAGE_COUNT_FIELDS:
            if str(body.get(name, 1)) != "1":
                raise RequestError(f"'{name}' must be 1: an item is one image; 'count' makes more of each")
        seed = _to_whole(body.get("seed", -1))
        if isinstance(seed, bool) or not isinstance(seed, int) or not -1 <= seed <= MAX_SEED:
            raise RequestError(f"'seed' must be a whole number up to {MAX_SEED}, or -1 for any")
        params.check_size(body, self._settings.max_prompt_chars)
        return webui_requests.check_generation(body, self._settings, token_max_pixels)


def _read_defaults(reader: FieldReader, checker: BodyChecker) -> Body:
    """Return a copy of the fields that all items have."""
    defaults = reader.take("defaults")
    if defaults is None:
        return {}
    if not isinstance(defaults, dict):
        reader.problems.add("defaults", "must be an object of the engine's fields")
        return {}
    checker.check_names("defaults", defaults)
    return _expand_size(defaults, "defaults", reader.problems)


def _read_items(items: Any, defaults: Body, checker: BodyChecker) -> list[Body]:
    """Return the bodies of a list of items."""
    problems = checker.problems
    if not isinstance(items, list) or not items:
        problems.add("items", "must be a list of objects or prompts; only 'graycat batch' can read it from a file")
        return []
    if len(items) > checker.max_bodies:
        problems.add("items", f"has {len(items)} items; a batch may have {checker.max_bodies}")
        return []

    bodies = []
    for index, item in enumerate(items):
        path = f"items[{index}]"
        own = {"prompt": item} if isinstance(item, str) else item
        if not isinstance(own, dict):
            problems.add(path, "must be an object of the engine's fields, or a prompt")
            continue
        checker.check_names(path, own)
        body = checker.check_body(path, _expand_size(own, path, problems), defaults)
        if body is not None:
            bodies.append(body)
    return bodies


def _read_matrix(matrix: Any, defaults: Body, prompt_request: PromptRequest | None, checker: BodyChecker) -> list[Body]:
    """Return the bodies of a matrix: one for each combination of the values of its axes."""
    axes = _read_axes(matrix, checker.problems)
    if axes is None or not checker.check_names("matrix", matrix, PLURALS):
        return []
    if prompt_request is not None and "prompt" in axes:
        checker.problems.add("matrix.prompt", "cannot be combined with 'prompts': leave one of them out")
    combinations = math.prod(len(values) for values in axes.values())
    if combinations > checker.max_bodies:
        checker.problems.add("matrix", f"has {combinations} combinations; a batch may have {checker.max_bodies}")
        return []

    if not _check_axes(axes, checker):
        return []
    return list(_combine(axes, defaults, checker, prompt_follows=prompt_request is not None))


def _read_axes(matrix: Any, problems: Problems) -> dict[str, list[Any]] | None:
    """Return the axes of a matrix: the values of each field."""
    if not isinstance(matrix, dict):
        problems.add("matrix", "must be an object: each field with the list of its values")
        return None
    axes: dict[str, list[Any]] = {}
    for name, values in matrix.items():
        if not isinstance(values, list) or not values:
            problems.add(f"matrix.{name}", "must be a list of values")
            return None
        field = PLURALS.get(str(name), str(name))
        if field in axes:
            problems.add(f"matrix.{name}", f"is {field!r} once more: leave one of them out")
            return None
        axes[field] = values
    return axes


def _check_axes(axes: dict[str, list[Any]], checker: BodyChecker) -> bool:
    """Check each value by itself; return whether all are valid."""
    valid = True
    for name, values in axes.items():
        for index, value in enumerate(values):
            path = f"matrix.{name}[{index}]"
            fields = _expand_size({name: value}, path, checker.problems)
            for field, field_value in fields.items():
                if not checker.check_field(path, field, field_value):
                    valid = False
    return valid


def _combine(
    axes: dict[str, list[Any]], defaults: Body, checker: BodyChecker, *, prompt_follows: bool
) -> Iterator[Body]:
    # Each value is valid by itself, so any problem now is one of the combination.
    for values in itertools.product(*axes.values()):
        own = _expand_size(dict(zip(axes, values, strict=True)), "matrix", checker.problems)
        body = checker.check_body("matrix", own, defaults, prompt_follows=prompt_follows)
        if body is not None:
            yield body


def _expand_size(body: Body, path: str, problems: Problems) -> Body:
    """Return a copy of a body with width and height in place of ``size`` (``512x768``)."""
    expanded = dict(body)
    if SIZE not in body:
        return expanded

    for side in ("width", "height"):
        if side in body:
            problems.add(f"{path}.{SIZE}", f"cannot be combined with {side!r}: leave one of them out")
    match = _SIZE.fullmatch(str(expanded.pop(SIZE)))
    if match is None:
        problems.add(f"{path}.{SIZE}", "must be like 512x768")
        return expanded
    expanded["width"] = int(match[1])
    expanded["height"] = int(match[2])
    return expanded


def _read_prompt_request(reader: FieldReader) -> PromptRequest | None:
    part = reader.read_object("prompts", text_field="ask")
    if part is None:
        return None

    text = part.read_text("ask", max_chars=4000, multiline=True)
    if not text:
        part.add_problem("ask", "is required: what the text engine is to write")
    count = part.read_count("count", 1, MAX_WRITTEN_PROMPTS)
    if count is None:
        part.add_problem("count", f"is required: how many prompts, up to {MAX_WRITTEN_PROMPTS}")
    temperature = part.take("temperature")
    if temperature is None:
        temperature = DEFAULT_TEMPERATURE
    elif isinstance(temperature, bool) or not isinstance(temperature, (int, float)) or not 0 <= temperature <= 5:
        part.add_problem("temperature", "must be a number from 0 to 5")
        temperature = DEFAULT_TEMPERATURE
    seed = part.read_count("seed", 0, MAX_SEED)
    model = part.read_text("model")
    part.refuse_unknown(PROMPT_REQUEST_FIELDS)
    return PromptRequest(text, count or 1, float(temperature), seed, model)


def _to_whole(seed: Any) -> Any:
    """Return a seed like 1.0 as 1, and anything else unchanged."""
    if isinstance(seed, float) and seed.is_integer():
        return int(seed)
    return seed


def _read_seeds(reader: FieldReader, defaults: Body) -> Seeds:
    """Return the seed policy. A seed in ``defaults`` means the policy ``fixed``, unless another is named."""
    default_seed = _to_whole(defaults.get("seed", -1))
    if not isinstance(default_seed, int) or default_seed < 0:
        default_seed = None

    part = reader.read_object("seeds", text_field="policy")
    if part is None:
        if default_seed is None:
            return Seeds("random")
        return Seeds("fixed", default_seed)

    policy = part.read_text("policy", SEED_POLICIES[0]).replace("-", "_").replace(" ", "_")
    if policy not in SEED_POLICIES:
        part.add_problem("policy", f"must be one of {', '.join(SEED_POLICIES)}")
    seed = part.read_count("seed", 0, MAX_SEED, default_seed)
    if policy in ("fixed", "per_item") and seed is None:
        part.add_problem("seed", f"is required if the policy is {policy}")
    part.refuse_unknown(("policy", "seed"))
    return Seeds(policy, seed or 0)
