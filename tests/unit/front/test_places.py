from __future__ import annotations

from typing import Any

from graycat.front.places import BODY, HEAD, RUN, STALLED, STATES, Places


def test_who_entered_a_state_first_is_in_front_and_a_move_puts_it_behind() -> None:
    places = Places()
    first, second = member(), member()
    places.add(first, HEAD)
    places.add(second, HEAD)
    assert places.oldest(HEAD) == first
    places.move(first, HEAD, HEAD)
    assert places.oldest(HEAD) == second
    places.remove(second, HEAD)
    assert (places.oldest(HEAD), places.count, places.oldest(RUN)) == (first, 1, None)


def test_who_has_no_request_is_not_busy() -> None:
    places = Places()
    for state in STATES:
        places.add(member(), state)
    assert places.count == 6
    assert places.busy == len({RUN, BODY, STALLED})


def member() -> Any:
    """Return what stands for a connection."""
    return object()
