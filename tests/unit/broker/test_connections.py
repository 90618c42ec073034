from __future__ import annotations

import os
import signal
import threading
from typing import Any

import hiredis
import pytest
import redis

from graycat.broker.client import broker_errors, connect
from graycat.broker.connections import RawConnection, RawConnectionPool
from graycat.errors import BrokerUnavailable
from graycat.settings import Settings
from tests.support.broker import BrokerClient, connect_client
from tests.support.helpers import PATIENCE_S, UNTRIED_S, Stopwatch, Valkey, in_background, outcome_of
from tests.support.processes import eventually
from tests.support.servers import HANG_UP, LOADING


@pytest.fixture
def pool(client: BrokerClient) -> RawConnectionPool:
    return RawConnectionPool(client)


def pool_with_idle(client: BrokerClient, count: int) -> RawConnectionPool:
    """Return a pool with ``count`` idle connections."""
    pool = RawConnectionPool(client)
    together = threading.Barrier(count)

    def block() -> None:
        together.wait(PATIENCE_S)
        pool.run([("BLPOP", "nothing", "0.1")])

    for thread in [in_background(block) for _ in range(count)]:
        thread.join(PATIENCE_S)
    return pool


def numbers_of_connections(pool: RawConnectionPool) -> set[int]:
    return {pool.run([("CLIENT", "ID")])[0] for _ in range(3)}


def test_each_command_has_its_reply_in_its_position(pool: RawConnectionPool) -> None:
    replies = pool.run(
        [("SET", "a", b"\xff \r\n"), ("GET", "a"), ("INCRBY", "n", 7), ("GET", "b"), ("LRANGE", "l", 0, 9)]
    )
    assert replies == [b"OK", b"\xff \r\n", 7, None, []]


def test_a_long_pipeline_is_one_round_trip(mortal_broker: Valkey) -> None:
    pool = RawConnectionPool(mortal_broker.client)
    before, _ = (reads(pool) for _ in range(2))
    assert pool.run([("ECHO", number) for number in range(500)]) == [b"%d" % number for number in range(500)]
    # One for the question before, one for the pipeline, one for the question now.
    assert reads(pool) - before == 3


def reads(pool: RawConnectionPool) -> int:
    """Return how often the broker has read from its clients."""
    info = dict(line.split(b":", 1) for line in pool.run([("INFO", "stats")])[0].split(b"\r\n") if b":" in line)
    return int(info[b"total_reads_processed"])


def test_replies_that_were_sent_for_can_be_read_by_and_by(client: BrokerClient) -> None:
    connection = RawConnection(client)
    connection.send([("ECHO", "a")])
    assert connection.read(1) == [b"a"]
    connection.send([("ECHO", "b")])
    connection.send([("ECHO", "c")])
    assert connection.read(2) == [b"b", b"c"]
    connection.close()


def test_an_error_is_a_reply_like_any_other(pool: RawConnectionPool) -> None:
    replies = pool.run([("SET", "text", "x"), ("LPUSH", "text", "item"), ("GET", "text")])
    assert (replies[0], replies[2]) == (b"OK", b"x")
    assert isinstance(replies[1], hiredis.ReplyError)
    assert str(replies[1]).startswith("WRONGTYPE")


def test_a_connection_is_used_again(pool: RawConnectionPool) -> None:
    assert len(numbers_of_connections(pool)) == 1


def test_a_large_value_goes_both_ways(pool: RawConnectionPool) -> None:
    value = os.urandom(5_000_000)
    assert pool.run([("SET", "large", value), ("GET", "large"), ("ECHO", "on")]) == [b"OK", value, b"on"]


def test_threads_never_read_each_other_s_replies(pool: RawConnectionPool) -> None:
    def ask(name: int) -> bool:
        asked = [[("ECHO", f"{name} {turn} {place}") for place in range(3)] for turn in range(100)]
        return all(pool.run(commands) == [word.encode() for _, word in commands] for commands in asked)

    waits = [outcome_of(lambda name=name: ask(name)) for name in range(8)]  # type: ignore[misc]
    assert all(wait() for wait in waits)


def test_a_command_that_cannot_be_sent_leaves_no_trace(pool: RawConnectionPool) -> None:
    wrong: Any = ("SET", "a", object())
    with pytest.raises(TypeError):
        pool.run([("ECHO", "a"), wrong])
    assert pool.run([("ECHO", "b")]) == [b"b"]


def test_a_restart_of_the_broker_goes_unnoticed_with_any_number_of_idle_connections(mortal_broker: Valkey) -> None:
    # An impatient client tries twice, and would meet a second dead connection.
    pool = pool_with_idle(mortal_broker.client, 4)
    mortal_broker.kill()
    mortal_broker.start()
    assert pool.run([("ECHO", "here")]) == [b"here"]


def test_a_patient_client_waits_for_the_broker(mortal_broker: Valkey) -> None:
    pool = pool_with_idle(connect_client(mortal_broker.settings, patient=True), 3)
    pool.run([("SET", "key", "before")])
    mortal_broker.kill()
    value = outcome_of(lambda: pool.run([("GET", "key")]))
    mortal_broker.start()
    assert value() == [b"before"]


def test_an_impatient_client_fails_at_once_if_the_broker_is_down(mortal_broker: Valkey) -> None:
    pool = pool_with_idle(mortal_broker.client, 3)
    mortal_broker.kill()
    watch = Stopwatch()
    with pytest.raises(BrokerUnavailable), broker_errors():
        pool.run([("PING",)])
    assert watch.seconds < UNTRIED_S
    mortal_broker.start()
    assert pool.run([("PING",)]) == [b"PONG"]


def test_an_outage_does_not_use_up_the_pool(no_broker: Settings) -> None:
    client = connect(no_broker)
    client.connection_pool.max_connections = 2
    for _ in range(5):
        with pytest.raises(redis.ConnectionError, match="connecting|No such file"):
            RawConnectionPool(client).run([("PING",)])


def test_a_connection_that_is_killed_is_replaced(pool: RawConnectionPool, client: BrokerClient) -> None:
    (number,) = numbers_of_connections(pool)
    client.client_kill_filter(_id=number)
    assert numbers_of_connections(pool) != {number}


def test_a_broker_that_has_stopped_is_not_waited_for(mortal_broker: Valkey) -> None:
    mortal_broker.client.connection_pool.connection_kwargs["socket_timeout"] = 0.3
    pool = pool_with_idle(mortal_broker.client, 2)
    pid = mortal_broker.client.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(redis.TimeoutError):
            pool.run([("ECHO", "late")])
        with pytest.raises(BrokerUnavailable), broker_errors():
            pool.run([("ECHO", "later")])
    finally:
        os.kill(pid, signal.SIGCONT)
    # What it says of the two comes too late for anybody to read it.
    assert pool.run([("ECHO", "now")]) == [b"now"]


@pytest.mark.parametrize(
    ("trouble", "error"),
    [
        ({"maxmemory": 1}, redis.OutOfMemoryError),
        ({"replicaof": "127.0.0.1 1"}, redis.ReadOnlyError),
        ({"replicaof": "127.0.0.1 1", "replica-serve-stale-data": "no"}, redis.ConnectionError),
    ],
)
def test_a_broker_that_cannot_be_used_is_unavailable(
    mortal_broker: Valkey, trouble: dict[str, Any], error: type
) -> None:
    pool = RawConnectionPool(mortal_broker.client)
    for name, value in trouble.items():
        if name == "replicaof":
            pool.run([("REPLICAOF", *value.split())])
        else:
            pool.run([("CONFIG", "SET", name, value)])
    with pytest.raises(BrokerUnavailable) as caught, broker_errors():
        pool.run([("PING",), ("SET", "key", "value")])
    assert isinstance(caught.value.__cause__, error)


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (LOADING, redis.BusyLoadingError),
        (b"-MASTERDOWN Link with MASTER is down", redis.ConnectionError),
        (b"-MISCONF Errors writing to the AOF file", redis.ReadOnlyError),
    ],
)
def test_an_impatient_client_does_not_wait_for_a_broker_that_is_not_ready(
    scripted_broker, reply: bytes, error: type
) -> None:
    pool = RawConnectionPool(connect(scripted_broker(*[reply] * 5)))
    with pytest.raises(BrokerUnavailable) as caught, broker_errors():
        pool.run([("PING",)])
    assert isinstance(caught.value.__cause__, error)


def test_a_patient_client_waits_for_a_broker_that_reads_its_data(scripted_broker) -> None:
    pool = RawConnectionPool(connect(scripted_broker(b"+first", LOADING, LOADING, LOADING), patient=True))
    assert [pool.run([("PING",)]) for _ in range(2)] == [[b"first"], [b"PONG"]]


@pytest.mark.parametrize("replies", [(HANG_UP,), (b"+early\r\n$100\r\nhalf of it", HANG_UP)])
def test_a_reply_that_breaks_off_is_asked_for_again(scripted_broker, replies: tuple[bytes, ...]) -> None:
    pool = RawConnectionPool(connect(scripted_broker(*replies)))
    assert pool.run([("ECHO", "a"), ("ECHO", "b")]) == [b"PONG", b"PONG"]


def test_who_is_refused_a_write_connects_again(mortal_broker: Valkey) -> None:
    mortal_broker.client.execute_command("REPLICAOF", "127.0.0.1", "1")
    pool = RawConnectionPool(connect(mortal_broker.settings))
    (before,) = pool.run([("CLIENT", "ID")])
    with pytest.raises(redis.ReadOnlyError):
        pool.run([("SET", "key", "value")])
    # The server that a name or a proxy leads to may be another one by now.
    assert pool.run([("CLIENT", "ID")]) != [before]


def test_a_patient_write_outlasts_a_server_that_takes_none(mortal_broker: Valkey) -> None:
    admin = mortal_broker.client
    admin.execute_command("REPLICAOF", "127.0.0.1", "1")
    pool = RawConnectionPool(connect(mortal_broker.settings, patient=True))
    written = outcome_of(lambda: pool.run([("SET", "key", "value")]))
    eventually(lambda: admin.info("errorstats").get("errorstat_READONLY"), PATIENCE_S)
    admin.execute_command("REPLICAOF", "NO", "ONE")
    assert written() == [b"OK"]
