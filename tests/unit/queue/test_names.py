from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graycat.broker.scripts import Scripts
from graycat.queue.names import Lane, QueueName, base_queue
from tests.support.broker import BrokerClient

PARTS = [
    ("llm", QueueName("llm")),
    ("llm.quick", QueueName("llm", Lane.QUICK)),
    ("llm.batch:a-model", QueueName("llm", Lane.BATCH, model="a-model")),
    ("llm:a.quick.model", QueueName("llm", model="a.quick.model")),
    ("sd.batch:a:model", QueueName("sd", Lane.BATCH, model="a:model")),
    ("sd:@sd@box-gpu0", QueueName("sd", worker="sd@box-gpu0")),
    ("control", QueueName("control")),
    ("video.overnight", QueueName("video", "overnight")),
]


@pytest.mark.parametrize(("text", "parts"), PARTS)
def test_a_name_is_taken_apart_and_put_together(text: str, parts: QueueName) -> None:
    assert QueueName.parse(text) == parts
    assert str(parts) == text


words = st.text("abcz09-_@", min_size=1)


@given(words, st.sampled_from(Lane), st.text(), st.booleans())
def test_what_is_put_together_is_taken_apart_alike(family: str, lane: Lane, target: str, for_worker: bool) -> None:
    name = QueueName(family, lane)
    if target:
        name = name.of_worker(target) if for_worker else name.of_model(target.lstrip("@"))
    assert QueueName.parse(str(name)) == name


@given(st.text())
def test_any_text_is_some_name(text: str) -> None:
    name = QueueName.parse(text)
    assert QueueName.parse(str(name)) == name


def test_a_queue_leads_to_its_neighbours() -> None:
    name = QueueName.parse("llm.batch:a-model")
    assert str(name.in_lane(Lane.INTERACTIVE)) == "llm:a-model"
    assert str(name.of_worker("llm@box")) == "llm.batch:@llm@box"
    assert str(name.of_model("b")) == "llm.batch:b"
    assert name.base == base_queue("llm.batch:a-model") == "llm.batch"


#: Returns what a script makes of a queue's name.
SCRIPT = """-- requires: queue/queue_names
local family, lane, target = parse_queue(ARGV[1])
return {family, lane, target, base_queue(ARGV[1]), tostring(is_fair(ARGV[1]))}
"""
ODD = ["", ".", "a.", ".quick", ":x", "llm.quick:@w", "llm.quickly", "a.b.c:d"]


@pytest.mark.parametrize("text", [text for text, _ in PARTS] + ODD)
def test_scripts_read_a_name_as_python_does(client: BrokerClient, tmp_path: Path, text: str) -> None:
    (tmp_path / "parse.lua").write_text(SCRIPT)
    scripts = Scripts(client, tmp_path, ("parse",))
    reply = scripts.run("parse", [], [text])
    family, lane, target, base, fair = (part.decode() for part in reply)
    name = QueueName.parse(text)
    assert (family, lane) == (name.family, name.lane)
    assert QueueName.parse(f"{base}{target}") == name
    assert base == text.partition(":")[0]
    assert fair == str(name.lane != Lane.QUICK).lower()
