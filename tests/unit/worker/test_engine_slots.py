from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator

import pytest

from graycat.engines.client import EngineClient
from graycat.worker import engine_slots
from graycat.worker.engine_slots import EngineSlots
from tests.support.servers import Answer, Handler, Seen, drop, hold, http_server, reply


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every look made soon, and the deadline come early."""
    monkeypatch.setattr(engine_slots, "LOOK_DELAYS_S", (0.01, 0.02))
    monkeypatch.setattr(engine_slots, "FREE_TIMEOUT_S", 0.3)
    monkeypatch.setattr(engine_slots, "LOOK_TIMEOUT_S", 0.05)


def working(*slots: bool) -> bytes:
    """Return the engine's answer while some slots work."""
    return json.dumps([{"id": number, "is_processing": busy} for number, busy in enumerate(slots)]).encode()


@pytest.fixture
def engine() -> Iterator[Seen]:
    """Yield an engine that has no slots to tell of, until a test gives it some."""
    with http_server({}) as seen:
        yield seen


def slots_of(engine: Seen, *answers: Answer) -> EngineSlots:
    """Return the slots of an engine that answers so, one look after the other; the last is repeated."""
    coming = itertools.chain(answers, itertools.repeat(answers[-1]))

    def answer(handler: Handler) -> None:
        next(coming)(handler)

    engine.answers["GET /slots"] = answer
    return EngineSlots(EngineClient(engine.url))


def expect(count: int) -> Callable[[], int]:
    """Return what tells how many slots the other calls need."""
    return lambda: count


def test_what_was_seen_is_kept_as_it_came_with_its_age(engine: Seen) -> None:
    slots = slots_of(engine, reply(200, working(True, False)))
    assert (slots.reply, slots.age_s) == (b"", 0.0)
    slots.refresh()
    assert slots.reply == working(True, False)
    assert 0.0 < slots.age_s < 5.0


def test_prompts_and_answers_stay_on_the_box(engine: Seen) -> None:
    slots = slots_of(engine, reply(200, [{"id": 0, "is_processing": True, "prompt": "secret", "generated": "secret"}]))
    slots.refresh()
    assert json.loads(slots.reply) == [{"id": 0, "is_processing": True}]


def test_a_slot_is_waited_for_until_only_the_others_work(engine: Seen) -> None:
    ghosts = [reply(200, working(True, True, True, False))] * 3
    slots = slots_of(engine, *ghosts, reply(200, working(True, True, False, False)))
    assert slots.wait_until_free(expect(2))
    assert len(engine.requests) == 4
    assert slots.reply == working(True, True, False, False)


def test_nobody_waits_for_ever(engine: Seen) -> None:
    slots = slots_of(engine, reply(200, working(True)))
    assert not slots.wait_until_free(expect(0))
    assert len(engine.requests) > 3


def test_an_engine_that_is_slow_to_answer_is_asked_again(engine: Seen) -> None:
    slots = slots_of(engine, hold, reply(200, working(False)))
    assert slots.wait_until_free(expect(0))
    assert len(engine.requests) == 2


@pytest.mark.parametrize(
    "answer",
    [
        reply(501, {"error": {"code": 501, "message": "This server does not support slots endpoint"}}),
        reply(200, b"no JSON"),
        reply(200, [{"id": 0}]),
        reply(200, 7),
        drop,
    ],
)
def test_an_engine_that_does_not_tell_is_not_waited_for(engine: Seen, answer: Answer) -> None:
    slots = slots_of(engine, answer)
    assert slots.wait_until_free(expect(0))
    assert (len(engine.requests), slots.reply) == (1, b"")


def test_after_a_cut_nobody_looks_but_who_waits_for_the_slot(engine: Seen, monkeypatch: pytest.MonkeyPatch) -> None:
    slots = slots_of(engine, reply(200, working(False)))
    slots.wait_until_free(expect(0))
    slots.refresh()
    assert len(engine.requests) == 1
    monkeypatch.setattr(engine_slots, "QUIET_AFTER_CUT_S", 0.0)
    slots.refresh()
    assert len(engine.requests) == 2
