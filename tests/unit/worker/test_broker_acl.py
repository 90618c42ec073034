from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from graycat.broker import keys
from graycat.errors import SettingsError
from graycat.queue import ids, topology
from graycat.worker.broker_acl import (
    ARTIFACT_USES,
    CONNECTION,
    FAMILY_USES,
    KIND_USES,
    NAME_USES,
    setuser,
    worker_rules,
)
from graycat.worker.control_acl import COMMANDS
from tests.support.helpers import ROOT, Valkey

#: What only processes at home run.
WEB_SCRIPTS = {"admit", "create", "cancel", "subscribe", "position", "depths", "stored", "settle", "recount", "migrate"}
PASSWORD = "a-password-of-the-tests"


@pytest.fixture
def add(broker: Valkey) -> Iterator[object]:
    """Return how to make the user "box" by some rules; it goes with the test."""
    yield lambda rules, **how: broker.client.execute_command(*setuser("box", PASSWORD, rules, **how).split())
    broker.client.acl_deluser("box")


def scripts() -> list[Path]:
    return [path for path in (ROOT / "graycat").glob("*/lua/*.lua") if path.stem not in WEB_SCRIPTS]


def sent_by(path: Path) -> set[str]:
    return {command.lower() for command in re.findall(r"redis\.p?call\('(\w+)'", path.read_text())}


@pytest.mark.parametrize("path", scripts(), ids=lambda path: f"{path.parts[-3]}-{path.stem}")
def test_a_control_worker_may_send_what_its_scripts_send(path: Path) -> None:
    assert sent_by(path) <= {*COMMANDS, *CONNECTION.split()}


@pytest.mark.parametrize("path", [path for path in scripts() if path.parts[-3] == "queue"], ids=lambda path: path.stem)
def test_a_worker_may_send_what_its_scripts_send(path: Path) -> None:
    allowed = set(CONNECTION.split())
    for use in (*FAMILY_USES, *KIND_USES, *NAME_USES, *ARTIFACT_USES):
        allowed.update(use.commands.split())
    assert sent_by(path) <= allowed


@pytest.mark.parametrize("kind", topology.WORKER_KINDS)
@pytest.mark.parametrize("hashed", [False, True])
def test_a_broker_takes_the_rules_of_every_kind(broker: Valkey, add, kind: str, hashed: bool) -> None:
    add(worker_rules("box", [kind]), hashed=hashed)
    user = broker.client.acl_getuser("box")
    assert user["passwords"] == [sha256(PASSWORD.encode()).hexdigest()]
    assert "on" in user["flags"]
    assert not {"allkeys", "allchannels", "allcommands", "nopass"} & set(user["flags"])


def allowed(broker: Valkey, *command: str) -> bool:
    return bool(broker.client.execute_command("ACL", "DRYRUN", "box", *command) == b"OK")


#: For each kind, queues that are its own, and queues that are not.
QUEUES = {
    "llm": (["llm", "llm.batch", "llm:a-model", "llm:@llm@box"], ["llm.quick", "llm.quick:m", "sd", "control", "llmx"]),
    "quick": (["llm.quick", "llm.quick:a-model"], ["llm", "llm.batch", "llm:m", "sd"]),
    "sd": (["sd", "sd.batch", "sd:@sd@box"], ["llm", "sdx", "sd.other", "control"]),
    "control": (["control"], ["llm", "sd", "llm.quick", "sd:m"]),
}


@pytest.mark.parametrize("kind", QUEUES)
def test_a_worker_takes_from_its_own_queues_alone(broker: Valkey, add, kind: str) -> None:
    add(worker_rules("box", [kind]))
    own, others = QUEUES[kind]
    assert [queue for queue in (*own, *others) if allowed(broker, "BRPOP", queue, "1")] == own


@pytest.mark.parametrize("kind", QUEUES)
def test_no_worker_sees_what_opens_doors(broker: Valkey, add, kind: str) -> None:
    add(worker_rules("box", [kind]))
    for key in (keys.API_TOKENS, keys.API_TOKENS_USED, "anything"):
        assert not allowed(broker, "HGETALL", key)
        assert not allowed(broker, "HSET", key, "a", "b")


@pytest.mark.parametrize(("kind", "may"), [("llm", False), ("quick", False), ("sd", False), ("control", True)])
def test_no_box_writes_what_was_used_or_by_whom(broker: Valkey, add, kind: str, may: bool) -> None:
    add(worker_rules("box", [kind]))
    day = keys.usage_key("2026-11-29")
    assert allowed(broker, "ZADD", keys.UNCOUNTED, "1", "id victim") is may
    assert allowed(broker, "ZREM", keys.UNCOUNTED, "id owner") is may
    assert allowed(broker, "HSET", day, "victim llm requests", "9") is may
    assert allowed(broker, "HGETALL", day) is may


def test_a_worker_hears_commands_and_gives_none(broker: Valkey, add) -> None:
    add(worker_rules("box", ["llm"], db=3))
    assert allowed(broker, "PSUBSCRIBE", "/3.celery.pidbox")
    assert allowed(broker, "PUBLISH", keys.web_channel("llm", "x"), "event")
    assert not allowed(broker, "PUBLISH", keys.web_channel("sd", "x"), "event")
    assert not allowed(broker, "PUBLISH", f"{keys.PREFIX}web:x", "event")
    assert allowed(broker, "PUBLISH", "/3.celeryev/worker.heartbeat", "event")
    assert not allowed(broker, "PUBLISH", "/3.celery.pidbox", "shutdown")
    assert not allowed(broker, "PSUBSCRIBE", "/0.celery.pidbox")
    assert not allowed(broker, "SUBSCRIBE", f"{keys.PREFIX}web:x")


def test_a_worker_reports_under_its_own_name(broker: Valkey, add) -> None:
    add(worker_rules("box", ["llm", "quick"]))
    names = ["llm@box", "quick@box", "llm@box-gpu0", "llm@box2", "sd@box", "llm@boxer-gpu0"]
    assert [name for name in names if allowed(broker, "SET", keys.worker_key(name), "x")] == names[:3]


@pytest.mark.parametrize("name", ["", "default", "a b", "a*", "~*", "-x", "x" * 65, "nopass\n"])
def test_a_name_that_would_mean_more_is_none(name: str) -> None:
    with pytest.raises(SettingsError, match="cannot be a box's name"):
        worker_rules(name, ["llm"])


@pytest.mark.parametrize(
    ("kind", "text", "images"),
    [("llm", True, False), ("quick", True, False), ("sd", False, True), ("control", True, True)],
)
def test_a_worker_sees_the_tasks_of_its_own_family_alone(
    broker: Valkey, add, kind: str, text: bool, images: bool
) -> None:
    add(worker_rules("box", [kind]))
    for family, may in (("llm", text), ("sd", images)):
        for _ in range(20):
            task_id = ids.new_task_id(family)
            assert allowed(broker, "HGETALL", keys.record_key(task_id)) is may
            assert allowed(broker, "XADD", keys.events_key(task_id), "*", "a", "b") is may
            assert allowed(broker, "ZADD", keys.changed_key(family), "1", task_id) is may
            # The deliveries of webhooks are made at home.
            at_home = kind == "control"
            assert allowed(broker, "HSET", keys.delivery_key(task_id, "started"), "a", "b") is at_home
            assert allowed(broker, "HGET", keys.hook_key(task_id), "webhook") is at_home
