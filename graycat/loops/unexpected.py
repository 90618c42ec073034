"""What went wrong and was not expected: counted and logged without its content, so that a loop can go on.

A loop that serves many callers must not end by one item. It runs each item in ``guarded``.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic

from prometheus_client import Counter

logger = logging.getLogger(__name__)

#: Lines of the log in a second about the same error at the same place: boxes may push what cannot be read as fast as
#: their lines carry.
MAX_LINES_PER_S = 10

#: When the second of such an error began, and how often the error came in it.
_seconds: dict[tuple[str, str, str], tuple[float, int]] = {}

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
    """Count an error, and log its type and place. Its message stays out: it may quote what a caller sent.

    Of a flood of the same error all are counted, and some are logged.
    """
    UNEXPECTED.labels(where).inc()
    kind, place = type(error).__name__, _place_of(error)
    if _may_log((where, kind, place)):
        logger.error("unexpected error", extra={"where": where, "error": kind, "at": place})


def _place_of(error: BaseException) -> str:
    """Return file and line where an error was raised; '-' if it was not."""
    raised = error.__traceback__
    if raised is None:
        return "-"
    while raised.tb_next is not None:
        raised = raised.tb_next
    return f"{raised.tb_frame.f_code.co_filename.rpartition('/')[2]}:{raised.tb_lineno}"


def _may_log(key: tuple[str, str, str]) -> bool:
    now = monotonic()
    began, count = _seconds.get(key, (now, 0))
    if now - began >= 1.0:
        began, count = now, 0
    _seconds[key] = began, count + 1
    return count < MAX_LINES_PER_S
