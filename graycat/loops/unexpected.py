"""What went wrong and was not expected: counted and logged without its content, so that a loop can go on.

A loop that serves many callers must not end by one item. It runs each item in ``guarded``.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import Counter

logger = logging.getLogger(__name__)

UNEXPECTED = Counter(
    "graycat_unexpected_total",
    "Items that a loop skipped because of an error that nothing expects.",
    ["where"],
    # The registries of web processes and of workers both take it.
    registry=None,
)


@contextmanager
def guarded(
    where: str,
    *,
    let_through: tuple[type[BaseException], ...] = (),
    set_aside: Callable[[str], None] = lambda _: None,
) -> Iterator[None]:
    """Run a block that handles one item; an error in it is noted, and the caller goes on with the next item.

    ``where`` names the loop; ``let_through``: errors that the loop itself handles, such as BrokerUnavailable;
    ``set_aside``: keeps the item for an operator, and gets the reason.
    """
    try:
        yield
    except let_through:
        raise
    except Exception as error:  # noqa: BLE001 (whatever one item does, the others are served)
        note(where, error)
        try:
            set_aside(type(error).__name__)
        except Exception as second:  # noqa: BLE001 (setting aside may fail, for example with the broker away)
            note(where, second)


def note(where: str, error: BaseException) -> None:
    """Count an error, and log its type and place. Its message stays out: it may quote what a caller sent."""
    UNEXPECTED.labels(where).inc()
    place = "-"
    frames = traceback.extract_tb(error.__traceback__)
    if frames:
        place = f"{frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}"
    logger.error("unexpected error", extra={"where": where, "error": type(error).__name__, "at": place})
