from __future__ import annotations

import pytest

from graycat.queue.key_types import owner_types, queue_types
from graycat.queue.records import TaskRecords
from tests.support.broker import BrokerClient
from tests.support.helpers import claimed, new_task


@pytest.mark.parametrize("owner", ["tests", "a/player"])
def test_they_are_those_of_what_is_written(records: TaskRecords, client: BrokerClient, owner: str) -> None:
    tasks = [new_task(owner=owner, shown={"name": "x"}) for _ in range(3)]
    for task in tasks:
        records.create(task, b"message")
    records.cancel(tasks[2].id)
    types = queue_types("llm") | owner_types(owner)
    written = {key: client.type(key).decode() for key in types if client.exists(key)}
    assert written == {key: types[key] for key in written}
    assert len(written) == 7 + (owner != "tests")
    assert claimed(records, tasks[0].id)
