"""Compares a batch's document with what the live image engines list, before anything is made of it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from graycat.batches.errors import InvalidBatch
from graycat.batches.spec.choices import review
from graycat.fleet.offers import Offers
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
