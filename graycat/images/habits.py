"""What image engines do otherwise than A1111, and how a request is written so that each does what was asked.

An engine is recognised by what it lists, never by its command: it may run on another machine.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graycat.images.checkpoints import find_checkpoint, title_of
from graycat.images.engine_names import resolve
from graycat.images.made import Difference, differs

Body = dict[str, Any]

#: Seeds below this are kept by every engine that is known. graycat draws its own from them.
SAFE_SEEDS = 2**31
#: sd-server (stable-diffusion.cpp in stable-diffusion-cpp-python 0.4.7) lists its model with this hash.
_SD_SERVER_HASH = "8888888888"
_LORA_TAG = re.compile(r"<lora:[^<>:]{1,200}:")
_CHECKPOINT_FIELDS = ("hr_checkpoint_name", "refiner_checkpoint")


@dataclass(frozen=True)
class Habits:
    """How an engine is unlike A1111. ``seeds``: it keeps seeds below this and replaces others; None for no such limit.

    ``draws_well``: it has another random seed for each request. ``reads_lora_tags``: ``<lora:NAME:1>`` in a prompt
    loads that LoRA. ``names_model``: each request must name the model.
    """

    engine: str = ""
    seeds: int | None = None
    draws_well: bool = True
    reads_lora_tags: bool = True
    names_model: bool = False


A1111 = Habits()
#: It reads the seed into 32 bits, draws by the second's clock (so that two requests of one second are one picture), and
#: leaves LoRA tags in the prompt.
SD_SERVER = Habits("sd-server", seeds=SAFE_SEEDS, draws_well=False, reads_lora_tags=False)
#: It answers 400 to a request without a model.
XINFERENCE = Habits("xinference", names_model=True)
BY_ENGINE = {habits.engine: habits for habits in (A1111, SD_SERVER, XINFERENCE)}


def recognise(models: Any, progress_status: int) -> Habits:
    """Return the habits of an engine by its ``/sd-models``, and by the status of its ``/progress``.

    xinference's progress wants the id of a request (422), and its models have neither title nor hash.
    """
    entries: list[Any] = []
    if isinstance(models, list):
        entries = [model for model in models if isinstance(model, Mapping)]
    if any(model.get("hash") == _SD_SERVER_HASH for model in entries):
        return SD_SERVER
    if progress_status == 422:
        return XINFERENCE
    return A1111


def adapt(
    body: Body,
    habits: Habits,
    catalog: Mapping[str, Any],
    draw: Callable[[int], int] = secrets.randbelow,
) -> tuple[Body, list[Difference]]:
    """Return the body of a render as its engine needs it, and what it will not do as asked.

    Names are spelt as the engine spells them, and a checkpoint has its whole title. ``draw(n)`` draws a number below n.
    """
    adapted = resolve(body, catalog).body
    adapted = _name_checkpoints(adapted, habits, catalog.get("sd-models"))
    adapted, warnings = _fit_seed(adapted, habits, draw)
    prompts = f"{body.get('prompt', '')}{body.get('hr_prompt', '')}"
    if not habits.reads_lora_tags and _LORA_TAG.search(prompts):
        message = f"{habits.engine} reads no <lora:...> in a prompt: name the file in the field 'lora' instead"
        warnings.append({"field": "prompt", "asked": "<lora:...>", "made": None, "message": message})
    return adapted, warnings


def name_checkpoint(options: Body, catalog: Mapping[str, Any]) -> Body:
    """Return changes of settings whose checkpoint has its whole title: A1111 takes no part of one there."""
    models = catalog.get("sd-models")
    name = options.get("sd_model_checkpoint")
    if not isinstance(name, str) or not name or not isinstance(models, list):
        return options
    title = find_checkpoint(name, models)
    return options | {"sd_model_checkpoint": title} if title else options


def _name_checkpoints(body: Body, habits: Habits, models: Any) -> Body:
    entries: Sequence[Any] = models if isinstance(models, list) else []
    overrides = body.get("override_settings")
    overrides = overrides if isinstance(overrides, dict) else {}
    checkpoint = overrides.get("sd_model_checkpoint")
    title = ""
    if isinstance(checkpoint, str) and checkpoint:
        title = find_checkpoint(checkpoint, entries)
    elif habits.names_model and entries:
        title = title_of(entries[0])
    if title and title != checkpoint:
        body = body | {"override_settings": overrides | {"sd_model_checkpoint": title}}
    for field in _CHECKPOINT_FIELDS:
        name = body.get(field)
        if isinstance(name, str) and name and find_checkpoint(name, entries):
            body = body | {field: find_checkpoint(name, entries)}
    return body


def _fit_seed(body: Body, habits: Habits, draw: Callable[[int], int]) -> tuple[Body, list[Difference]]:
    """Return a body with a seed that its engine keeps: the same request then has the same pictures again."""
    if habits.seeds is None and habits.draws_well:
        return body, []
    seed, count = body.get("seed", -1), body.get("batch_size", 1)
    if not isinstance(seed, int) or not isinstance(count, int):
        return body, []
    # The further images of a batch have the next seeds.
    seeds = (habits.seeds or SAFE_SEEDS) - max(count, 1) + 1
    if seed < 0:
        return body | {"seed": draw(seeds)}, []
    if seed < seeds:
        return body, []
    return body | {"seed": seed % seeds}, [differs("seed", seed, seed % seeds)]
