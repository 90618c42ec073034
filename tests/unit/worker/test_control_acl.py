from __future__ import annotations

from graycat.broker import keys
from graycat.worker.broker_acl import setuser, worker_rules
from graycat.worker.control_acl import control_rules
from tests.support.helpers import Valkey


def allowed(broker: Valkey, *command: str) -> bool:
    return bool(broker.client.execute_command("ACL", "DRYRUN", "desk", *command) == b"OK")


def test_a_sweeper_may_put_messages_back_and_take_none(broker: Valkey) -> None:
    broker.client.execute_command(
        *setuser("desk", "a-password-of-the-tests", worker_rules("desk", ["control"])).split()
    )
    for command in (("LPUSH", "llm", "x"), ("LRANGE", "sd:m", "0", "-1"), ("HVALS", "unacked:sd")):
        assert allowed(broker, *command)
    for command in (("RPOP", "llm"), ("DEL", "sd:m"), ("HDEL", "unacked:sd", "x"), ("LREM", "llm", "0", "x")):
        assert not allowed(broker, *command)
    for family in ("llm", "sd"):
        assert allowed(broker, "ZADD", keys.live_key(family), "1", "x")
    broker.client.acl_deluser("desk")


def test_a_control_worker_loads_scripts_and_lists_no_tokens() -> None:
    rules = control_rules("desk", 0)
    assert "+script|load" in rules
    assert not any(keys.API_TOKENS + " " in rule or keys.API_TOKENS + ")" in rule for rule in rules)
