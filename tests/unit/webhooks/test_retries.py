from __future__ import annotations

import pytest

from graycat.webhooks.deliveries import Delivery
from graycat.webhooks.retries import BACKOFF_S, GIVE_UP_AFTER_S, GONE, decide_next
from graycat.webhooks.webhook import Webhook


@pytest.mark.parametrize("status", [200, 204, 299, GONE])
def test_what_the_receiver_has_taken_or_wants_no_more_is_over(status: int) -> None:
    delivery = Delivery("a", "failed", 1, "tests", 0, Webhook("https://a.example/"), {})
    assert decide_next(delivery, 1000, status, None).next_ms is None


@pytest.mark.parametrize(("status", "error"), [(199, None), (300, None), (404, None), (500, None), (None, "timeout")])
def test_anything_else_is_tried_again(status: int | None, error: str | None) -> None:
    delivery = Delivery("a", "failed", 1, "tests", 0, Webhook("https://a.example/"), {})
    attempt = decide_next(delivery, 1000, status, error)
    assert attempt.next_ms is not None
    assert attempt.next_ms > 1000


def test_the_last_try_is_not_later_than_a_day_behind_the_event() -> None:
    delivery = Delivery("a", "failed", 12, "tests", 0, Webhook("https://a.example/"), {})
    soon = decide_next(delivery, (GIVE_UP_AFTER_S - 2 * BACKOFF_S[-1]) * 1000, 500, None)
    late = decide_next(delivery, (GIVE_UP_AFTER_S - 1) * 1000, 500, None)
    assert (soon.state, late.state, late.next_ms) == ("pending", "failed", None)
