"""The items of batches, as the control worker moves them from state to state."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from graycat.batches.plan import Item
from graycat.batches.states import ITEM_STATES, QUEUED, RUNNING, WAITING
from graycat.broker.client import broker_errors
from graycat.broker.keys import batch_key, batch_part_key
from graycat.broker.protocol import Broker
from graycat.broker.scripts import load

_LUA = Path(__file__).parent / "lua"

#: How many items go to the broker in one command.
PORTION = 500


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of an item beside its plan.

    ``tries``: tasks made for it; ``attempts``: how often engines were asked, all tries but the current one together;
    ``seen``: how often in the current one, as far as was seen;
    ``failures``: tries in a row that failed for no fault of the item's. ``line``: its manifest line, once it is done.
    """

    state: str = WAITING
    tries: int = 0
    attempts: int = 0
    seen: int = 0
    failures: int = 0
    task_id: str = ""
    submitted_ms: int = 0
    error: dict[str, Any] | None = None
    line: dict[str, Any] | None = None

    def changed(self, **changes: Any) -> Known:
        """Return it with some of it changed."""
        return replace(self, **changes)


class BatchItems:
    """The items of the batches in the broker. Every method raises BrokerUnavailable."""

    def __init__(self, client: Broker) -> None:
        self._client = client
        self._move = client.register_script(load(_LUA / "move_item.lua"))

    def plan(self, batch_id: str, items: Iterable[Item]) -> None:
        """Write a batch's plan; the same again changes nothing, as long as nothing has been made of it."""
        whole = list(items)
        for start in range(0, len(whole), PORTION):
            portion = whole[start : start + PORTION]
            with broker_errors(), self._client.pipeline(transaction=True) as pipe:
                plan = {item.number: item.encoded() for item in portion}
                pipe.hset(batch_part_key(batch_id, "plan"), mapping=plan)
                pipe.zadd(batch_part_key(batch_id, WAITING), {item.number: item.number for item in portion})
                pipe.execute()

    def planned(self, batch_id: str, numbers: Sequence[int]) -> dict[int, Item]:
        """Return items of the plan by their numbers."""
        return {number: Item.from_record(text) for number, text in self._texts(batch_id, "plan", numbers).items()}

    def known(self, batch_id: str, numbers: Sequence[int]) -> dict[int, Known]:
        """Return what is known of items by their numbers."""
        found = self._texts(batch_id, "items", numbers)
        return {n: Known(**json.loads(found[n])) if n in found else Known() for n in numbers}

    def _texts(self, batch_id: str, part: str, numbers: Sequence[int]) -> dict[int, bytes]:
        if not numbers:
            return {}
        with broker_errors():
            texts = self._client.hmget(batch_part_key(batch_id, part), numbers)
        return {number: text for number, text in zip(numbers, texts, strict=True) if text is not None}

    def numbers(self, batch_id: str, *states: str, most: int = PORTION) -> list[int]:
        """Return the first numbers of the items in some states."""
        with broker_errors():
            found = [self._client.zrange(batch_part_key(batch_id, state), 0, most - 1) for state in states]
        return sorted(int(number) for numbers in found for number in numbers)

    def counts(self, batch_id: str) -> dict[str, int]:
        """Return how many items are in each state."""
        with broker_errors(), self._client.pipeline(transaction=False) as pipe:
            for state in ITEM_STATES:
                pipe.zcard(batch_part_key(batch_id, state))
            return dict(zip(ITEM_STATES, pipe.execute(), strict=True))

    def in_hand(self, batch_id: str) -> list[int]:
        """Return the numbers of the items that have a task."""
        return self.numbers(batch_id, QUEUED, RUNNING)

    def move(self, batch_id: str, number: int, old: Known, new: Known) -> bool:
        """Write what is known of an item now; False where another process was quicker."""
        arguments = (number, old.state, old.tries, new.state, json.dumps(asdict(new)))
        with broker_errors():
            return bool(self._move(keys=[batch_key(batch_id)], args=arguments) == 1)

    def move_all(self, batch_id: str, states: Sequence[str], to: str, most: int = PORTION) -> int:
        """Move items of some states to another one, some at a time; return how many those were."""
        numbers = self.numbers(batch_id, *states, most=most)
        for number, known in self.known(batch_id, numbers).items():
            self.move(batch_id, number, known, known.changed(state=to, failures=0, error=None))
        return len(numbers)
