"""Compares a batch's document with what the live image engines list, before anything is made of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial
from typing import Any

from graycat.batches.errors import MAX_PROBLEMS, InvalidBatch
from graycat.batches.spec import Spec
from graycat.batches.spec.choices import review
from graycat.errors import BrokerUnavailable, ModelNotFound
from graycat.fleet.catalogs import find_unsupported, seed_limit
from graycat.fleet.model_names import choose_model
from graycat.fleet.offers import Offers
from graycat.images.errors import SettingNotAllowed
from graycat.images.prompt_controls import check_styles
from graycat.queue.topology import LLM
from graycat.web.compat.image_tasks import run_in_thread
from graycat.web.services import services

#: Warnings of one document.
MAX_WARNINGS = 20


def check_choices(document: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return warnings about values that no live engine lists any of. Raises InvalidBatch for those that none has.

    ``prefix``: what stands before the paths. A document names thousands of values at most, so it takes milliseconds.
    """
    found = run_in_thread(partial(review, document, Offers(services().catalogs())))
    if found.problems:
        raise InvalidBatch([(f"{prefix}{path}", message) for path, message in found.problems])
    warnings = []
    for path in found.unchecked[:MAX_WARNINGS]:
        warnings.append(f"{prefix}{path} is not checked: no image engine that runs now lists its values")
    return warnings


def find_unlisted(document: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the first values that no live engine lists, of a document that is invalid in other ways.

    Such a document may be of any length, and each value takes its time.
    """
    try:
        catalogs = services().catalogs()
    except BrokerUnavailable:
        return []
    return run_in_thread(partial(review, document, Offers(catalogs), MAX_PROBLEMS)).problems


def check_names(parsed: Spec, prefix: str = "") -> None:
    """Raise InvalidBatch for what the engines that run now cannot do, or would do otherwise.

    Styles that set parameters, seeds that are replaced, fields that no engine has, and a model for the prompts that no
    engine has. ``prefix``: what stands before the paths.
    """
    problems = []
    bodies_by_styles = {json.dumps(body["styles"]): body for body in parsed.images.bodies if body.get("styles")}
    style_lists = [catalog.get("prompt-styles") for catalog in services().catalogs().values()]
    for body in bodies_by_styles.values():
        try:
            check_styles(body, style_lists)
        except SettingNotAllowed as error:
            problems.append(("styles", str(error)))
    problems.extend(_find_lost_seeds(parsed))
    problems.extend(_find_unsupported(parsed))
    if parsed.prompt_request is not None and parsed.prompt_request.model:
        model = parsed.prompt_request.model
        if not choose_model(model, LLM, services().workers(), services().settings).is_known:
            problems.append(("prompts.model", str(ModelNotFound(model))))
    if problems:
        raise InvalidBatch([(f"{prefix}{path}", message) for path, message in problems])


def _find_unsupported(parsed: Spec) -> list[tuple[str, str]]:
    """Return a problem if the batch asks for what none of the image engines can do."""
    catalogs = services().catalogs()
    for body in parsed.images.bodies:
        refusal = find_unsupported(parsed.to_request(body), catalogs)
        if refusal is not None:
            return [(refusal.param, refusal.reason)]
    return []


def _find_lost_seeds(parsed: Spec) -> list[tuple[str, str]]:
    """Return a problem if the batch asks for a seed that an image engine would replace by another."""
    images = parsed.images
    largest = max([images.seeds.seed, *(body.get("seed", -1) for body in images.bodies)], default=-1)
    for worker in services().workers():
        limit = seed_limit(worker)
        if limit is not None and largest >= limit:
            return [("seed", f"the image engine of {worker.name} keeps seeds below {limit} only, not {largest}")]
    return []
