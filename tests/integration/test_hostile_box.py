"""A box's broker user plays everything that its rules let it write, against a home that serves another family.

The rules are read back from the broker (ACL GETUSER), so a rule that is added is played, too: a command that is not in
PLAYS fails the test.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis

from graycat.broker import keys
from graycat.broker.scripts import digest, list_texts
from graycat.queue import ids
from graycat.worker.broker_acl import ARTIFACT_USES, FAMILY_USES, KIND_USES, NAME_USES
from tests.support.boxes import Home, at_home, fake_engine
from tests.support.helpers import ROOT
from tests.support.processes import SLACK_S, eventually, quickly
from tests.support.stack import REQUEST_S, Client, free_ports

HUGE = "x" * 2_000_000
#: Seconds that any call of a script may hold up the broker.
LONGEST_CALL_S = 1.0
#: How each command is played with a key (of a channel: with its name): rubbish, huge, many.
PLAYS: dict[str, Callable[[str], list[tuple[Any, ...]]]] = {
    "set": lambda key: [("SET", key, "rubbish"), ("SET", key, HUGE)],
    "setrange": lambda key: [("SETRANGE", key, 5_000_000, "x")],
    "incr": lambda key: [("INCR", key)],
    "decr": lambda key: [("DECR", key)] * 3,
    "del": lambda key: [("DEL", key)],
    "pexpire": lambda key: [("PEXPIRE", key, 10**12)],
    "hset": lambda key: [
        ("HSET", key, "state", "running", "channels", "graycat:web:llm:x " * 5000),
        ("HSET", key, HUGE, HUGE),
    ],
    "hsetnx": lambda key: [("HSETNX", key, "\xff", "x")],
    "hincrby": lambda key: [("HINCRBY", key, "attempt", 10**15)],
    "hdel": lambda key: [("HDEL", key, "state", "queue", "owner")],
    "lpush": lambda key: [("LPUSH", key, "{half", '{"headers": 7}', HUGE, *["x"] * 2000)],
    "rpush": lambda key: [("RPUSH", key, "[" * 5000)],
    "lpop": lambda key: [("LPOP", key, 10)],
    "lrem": lambda key: [("LREM", key, 0, "x")],
    "ltrim": lambda key: [("LTRIM", key, 0, 5)],
    "brpop": lambda key: [("BRPOP", key, 0.01)],
    "zadd": lambda key: [("ZADD", key, "inf", "sd@home", -1, "\xff\x00", 1e12, HUGE, 0, ids.new_task_id("sd.txt2img"))],
    "zrem": lambda key: [("ZREM", key, "sd@home", "llm@home")],
    "srem": lambda key: [("SREM", key, "llm")],
    "xadd": lambda key: [("XADD", key, "*", "task", HUGE), ("XADD", key, f"{2**63}-1", "kind", "chunk")],
    "publish": lambda name: [("PUBLISH", name, "rubbish"), ("PUBLISH", name, "\xff" * 100_000)],
    "evalsha": lambda key: [],
}


class Rule(NamedTuple):
    """Commands, and the patterns of the keys or channels that they may write."""

    commands: list[str]
    keys: list[str]
    channels: list[str]


def ask(home: Home, *command: Any) -> Any:
    """Return the broker's own reply to a command of home's."""
    with redis.Redis(unix_socket_path=str(home.broker.settings.broker_socket), protocol=2) as client:
        client.response_callbacks.clear()
        return client.execute_command(*command)


def read_rules(home: Home, user: str) -> list[Rule]:
    """Return the rules of a user as the broker has them: the root's, then each selector's."""
    reply = ask(home, "ACL", "GETUSER", user)
    found = dict(zip(reply[::2], reply[1::2], strict=True))
    rules = []
    for part in (found, *(dict(zip(row[::2], row[1::2], strict=True)) for row in found[b"selectors"])):
        commands: set[str] = set()
        for word in part[b"commands"].decode().split():
            # Redis 7.0 names a category where the commands are all of it.
            named = {word[1:]}
            if word[1] == "@":
                category = () if word == "-@all" else ask(home, "ACL", "CAT", word[2:])
                named = {command.decode() for command in category}
            commands = commands | named if word[0] == "+" else commands - named
        rules.append(Rule(sorted(commands), part[b"keys"].decode().split(), part[b"channels"].decode().split()))
    return rules


def is_writing(home: Home, command: str) -> bool:
    (info,) = ask(home, "COMMAND", "INFO", command.partition("|")[0])
    flags = {flag.decode() if isinstance(flag, bytes) else flag for flag in info[2]}
    return "write" in flags or command in ("publish", "evalsha")


def names_of(pattern: str, known: list[str]) -> list[str]:
    """Return names that a pattern lets through: one made of it, and those that are there."""
    text = pattern.lstrip("%RW").lstrip("~&")
    made = re.sub(r"\[(.).*?\]", r"\1", text).replace("*", "e" * 31).replace("?", "e")
    regex = re.compile(re.escape(text).replace(r"\*", ".*").replace(r"\?", ".").replace(r"\[", "[").replace(r"\]", "]"))
    return [made, *(name for name in known if regex.fullmatch(name))]


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """Yield a home with a control worker and an image worker of its own; text is for boxes."""
    with at_home(tmp_path_factory.mktemp("hostile") / "home", RUN_SD="true", GRAYCAT_ADMINS="tests") as started:
        port = free_ports(1)[0]
        started.web.set_env({"A1111_URL": f"http://127.0.0.1:{port}", "GRAYCAT_BOX": "home"})
        started.web.launch("engine", f"{sys.executable} -m tests.fakes.webui --port {port}")
        started.web.launch("control", "graycat worker control")
        started.web.launch("sd", "graycat worker sd")
        for worker in ("sd@home", "control@home"):
            started.wait_until_consuming(worker)
        yield started


@pytest.fixture(scope="module")
def box_url(home: Home) -> str:
    return home.broker.add_box("evil", "llm", "quick")


def made_image(client: Client) -> dict[str, Any]:
    """Return the task of an image, once it has succeeded."""
    accepted = client.post("/tasks", {"kind": "sd.txt2img", "input": {"prompt": "x", "steps": 2}})
    assert accepted.status_code == 202, accepted.text
    task: dict[str, Any] = client.get(f"/tasks/{accepted.json()['id']}?wait=60").json()
    assert task["state"] == "succeeded", task
    return task


def assert_untouched(home: Home) -> None:
    """Home answers everything, and serves its own family as if nobody else was there."""
    client = home.client()
    for path in ("/health", "/tasks", "/status", "/metrics", "/openapi.json"):
        assert client.get(path).status_code == 200, path
    row = home.row("sd@home")
    assert (row["consuming"], row["queues"]) == (True, ["sd", "sd.batch"])
    task = quickly(lambda: made_image(client), 15)
    assert client.get(f"/tasks/{task['id']}/images/0").status_code == 200
    metrics = client.get("/metrics").text
    assert re.search(r'graycat_queue_consumers\{queue="sd"\} 1\.0', metrics)
    assert re.search(r'graycat_queue_depth\{queue="sd"\} 0\.0', metrics)
    names = {row["name"] for row in client.get("/ready").json()["workers"]}
    assert {"sd@home", "control@home"} <= names


def plays_of(home: Home) -> list[tuple[Any, ...]]:
    """Return all that the rules of the box let it write: on names that are made up, and on those that are there."""
    known = [name.decode(errors="surrogateescape") for name in ask(home, "KEYS", "*")]
    plays: list[tuple[Any, ...]] = []
    for rule in read_rules(home, "evil"):
        for command in [name for name in rule.commands if is_writing(home, name)]:
            for pattern in (*rule.keys, *rule.channels):
                if pattern.startswith("%R~"):
                    continue
                for name in names_of(pattern, known):
                    plays += PLAYS[command](name)
    return plays


def test_what_a_box_may_write_has_no_effect_on_home_or_another_family(home: Home, box_url: str) -> None:
    client = home.client()
    # Text tasks that live, so that there is something to spoil.
    for _ in range(3):
        client.post("/tasks", {"kind": "llm.completion", "input": {"prompt": "x"}})
    assert_untouched(home)
    others = {name for name in map(bytes, ask(home, "KEYS", "*")) if is_of_images(name)}
    plays = plays_of(home)
    assert len(plays) > 100
    with redis.Redis.from_url(box_url, driver_info=None, socket_timeout=REQUEST_S) as box:
        box.response_callbacks.clear()
        done, forbidden = set(), []
        for number, command in enumerate(plays):
            # What is refused is refused by its type or range: never by the rules, which allow it.
            try:
                box.execute_command(*command)
                done.add(command[0])
            except redis.ResponseError as error:
                if str(error).startswith(("NOPERM", "this user has no permissions")):
                    forbidden.append(command[:2])
            if number % 40 == 0:
                assert client.get("/health").status_code == 200, command[:2]
    assert forbidden == []
    assert done == {name.upper() for name in PLAYS} - {"EVALSHA", "SETRANGE", "HKEYS"}
    assert_untouched(home)
    kept = {name for name in map(bytes, ask(home, "KEYS", "*")) if is_of_images(name)}
    assert others <= kept | {name for name in others if name.startswith((b"graycat:events", b"graycat:preview", b"sd"))}


def is_of_images(name: bytes) -> bool:
    return bool(re.match(rb"graycat:(task|artifacts?|events):[89a-f]|graycat:[a-z]+\.(sd|home)|sd", name))


def test_what_a_box_has_left_is_bounded_and_its_own_family_heals(home: Home, box_url: str, tmp_path: Path) -> None:
    ask(home, "ACL", "DELUSER", "evil")
    client = home.client()
    forever = re.compile(rb"graycat:(task|events|worker|catalog|turn\.|failures|quarantine|sweeping|changed)")

    def unbounded() -> list[bytes]:
        names = [bytes(name) for name in ask(home, "KEYS", "*") if forever.match(name)]
        return [name for name in names if ask(home, "PTTL", name) == -1]

    eventually(lambda: not unbounded(), SLACK_S)
    good = home.broker.add_box("good", "llm", "quick")
    box = home.box("good", good, REMOTE="true")
    box.set_env({"LLAMA_SERVER_URL": fake_engine(box, "--interval 0.02")})
    box.launch("llm")
    home.wait_until_consuming("llm@good")

    def answers() -> bool:
        reply = client.post("/completion", {"prompt": "x", "n_predict": 3}, timeout=REQUEST_S)
        return reply.status_code == 200 and reply.json()["tokens_predicted"] == 3

    eventually(answers, SLACK_S)
    assert_untouched(home)
    box.kill("llm")


@pytest.fixture(scope="module")
def caller(home: Home) -> Iterator[redis.Redis]:
    url = home.broker.add_box("caller", "llm")
    with redis.Redis.from_url(url, driver_info=None, socket_timeout=REQUEST_S) as client:
        client.response_callbacks.clear()
        yield client


LONG = "0" * 200_000
HOSTILE_CALLS: dict[str, tuple[list[str], list[Any]]] = {
    "nothing": ([], []),
    "long names": ([f"graycat:task:0{LONG}:", f"graycat:events:0{LONG}:", "graycat:live.llm"], [1, "x"]),
    "many keys": ([f"graycat:task:0{number}" for number in range(20_000)], list(range(3000))),
    "one key often": (["graycat:live.llm"] * 20_000, [1] * 3000),
    "large numbers": (["graycat:task:0", "graycat:events:0", "graycat:live.llm"], [10**15] * 30),
    "queues": (["graycat:task:0", "graycat:events:0", "graycat:live.llm"], ["llm"] * 20_000),
}


@pytest.mark.parametrize("case", HOSTILE_CALLS)
def test_no_script_of_home_can_be_made_to_hold_up_the_broker(home: Home, caller: redis.Redis, case: str) -> None:
    script_keys, arguments = HOSTILE_CALLS[case]
    owners = {f"o{number}": number for number in range(20_000)}
    caller.execute_command(
        "ZADD", keys.owners_key("llm"), *(word for owner, at in owners.items() for word in (at, owner))
    )
    slow = []
    for text in list_texts():
        began = time.monotonic()
        with suppress(redis.ResponseError):
            caller.execute_command("EVALSHA", digest(text), len(script_keys), *script_keys, *arguments)
        if time.monotonic() - began > LONGEST_CALL_S:
            slow.append((text.split("\n")[-3], time.monotonic() - began))
    assert slow == []
    assert home.client().get("/health").status_code == 200


def test_the_docs_say_what_is_left_for_a_hostile_box() -> None:
    docs = (ROOT / "docs" / "boxes.md").read_text(encoding="utf-8")
    section = docs.partition("### What a hostile box can still do")[2].partition("\n## ")[0]
    listed = set(re.findall(r"^\| ([^|]+?) \|", section, re.M)) - {"what it may do"}
    writing = set(PLAYS)
    uses = {
        use.why for use in (*FAMILY_USES, *KIND_USES, *NAME_USES, *ARTIFACT_USES) if writing & set(use.commands.split())
    }
    assert listed == uses
