"""Requests and keys that are meant to break something."""

from __future__ import annotations

import contextlib
import socket
import time
from functools import partial

from bench.rubbish_kinds import Rubbish
from chaos.faults import ENDS, REFUSES, Fault
from chaos.faults.windows import submit_batch
from chaos.ledger import Accepted, Caller
from chaos.system import System
from tests.fakes.llama_server import DEADLY
from tests.support.processes import eventually

#: Seconds between two pieces of rubbish, and how many there are.
RUBBISH_S, RUBBISH = 0.03, 140
#: Seconds until graycat has moved another program's key aside.
ASIDE_S = 20.0
KEYS = ("live.llm", "turns.llm", "fleet.llm", "batches:live")
#: What rubbish leaves: items and keys that graycat has set aside, and names in three sets that are nobody's.
#: Nothing may be left in queues, among unacknowledged messages or among live tasks.
SET_ASIDE = frozenset({"left quarantine llm", "left quarantine sd", "left quarantine home", "left keys wrong-type:*"})
FOREIGN_NAMES = frozenset({"left paused queues", "left turns llm", "left live tasks of owners llm"})
BAD_HEADS = (
    b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    b"POST /completion HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzzz\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"POST /completion HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n{",
    b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 2000,
)


def send_deadly(system: System) -> None:
    """Submit a request that ends its engine's process each time."""
    name = f"{DEADLY}-{system.ledger.new_name('poison')}"
    body = {"kind": "llm.completion", "input": {"prompt": name, "n_predict": 4}}
    headers = {"X-Request-ID": system.ledger.new_name("deadly")}
    answer = system.request("PUT", f"/tasks/{headers['X-Request-ID']}", "rest", json=body, headers=headers)
    accepted = Accepted(headers["X-Request-ID"], Caller.REST, answer.json()["id"], may_end=("failed",))
    system.ledger.accept(accepted)
    system.wait_for_end(accepted.name)
    system.harm_done()


def throw_rubbish(system: System) -> None:
    """Write rubbish of every kind into the broker."""
    rubbish = Rubbish(system.redis(), seed=17)
    for _ in range(RUBBISH):
        rubbish.send()
        time.sleep(RUBBISH_S)
    for key in ("llm.batch", "sd:@nobody", "llm:no-model"):
        # The queue of bulk work may be one by now.
        if system.redis().type(key) == "string":
            system.redis().delete(key)


def change_type(key: str, system: System) -> None:
    """Put a key of another type in the place of one of graycat's."""
    broker, aside = system.redis(), f"graycat:wrong-type:graycat:{key}"
    if key == "batches:live":
        # That of the load has ended by now: one must be there whose place is lost.
        submit_batch(system)
    broker.set(f"graycat:{key}", "another program's")
    eventually(lambda: broker.exists(aside), ASIDE_S)
    system.harm_done()
    broker.delete(aside)


def send_bad_heads(system: System) -> None:
    """Send what is no request, again and again."""
    for _ in range(20):
        for head in BAD_HEADS:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", system.stack.port), 5) as open_:
                open_.sendall(head)


def send_wrong_bodies(system: System) -> None:
    """Send bodies that no route takes: each is refused with a code, and costs nobody anything."""
    deep = "[" * 5000
    bodies = (b"", b"{", b"null", b"[]", b'"x"', deep.encode())
    for path in ("/completion", "/sdapi/v1/txt2img", "/tasks", "/batches", "/v1/chat/completions"):
        for body in bodies:
            headers = {"Content-Type": "application/json", "X-Request-ID": system.ledger.new_name("bad")}
            answer = system.request("POST", path, "operator", data=body, headers=headers)
            if not 400 <= answer.status_code < 500:
                raise AssertionError(f"{path} answers {answer.status_code} to {body[:40]!r}")


FAULTS = [
    Fault("deadly request", "poison", "a request that ends its engine's process each time", send_deadly,
          permits=ENDS),
    *[Fault(f"foreign key {key}", "poison", f"another program's key in the place of {key}", partial(change_type, key),
            permits=REFUSES) for key in KEYS],
    Fault("broken requests", "poison", "a hundred connections that send no HTTP, or half of it", send_bad_heads),
    Fault("wrong bodies", "poison", "bodies that no route takes", send_wrong_bodies),
    Fault("rubbish", "poison", f"{RUBBISH} pieces of rubbish of 14 kinds in the broker", throw_rubbish, alone=True,
          permits=REFUSES | SET_ASIDE | FOREIGN_NAMES),
]  # fmt: skip
