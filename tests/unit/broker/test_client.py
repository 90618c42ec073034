from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import pytest
import redis
from redis.backoff import NoBackoff

from graycat.broker.client import BoundedRetry, broker_errors, check, connect, now_ms
from graycat.broker.keys import artifact_key, artifacts_key, events_key, fleet_key, live_key, record_key, worker_key
from graycat.broker.protocol import Broker
from graycat.errors import BrokerUnavailable, SettingsError
from graycat.queue.records import TaskRecords
from graycat.settings import Settings
from tests.support.broker import BrokerClient, connect_client
from tests.support.helpers import (
    PATIENCE_S,
    UNTRIED_S,
    Stopwatch,
    Valkey,
    accepted,
    changed,
    free_port,
    in_background,
    outcome_of,
)
from tests.support.servers import LOADING
from tests.support.troubles import FrailValkey, cluster_node


def test_replies_are_bytes(client: BrokerClient) -> None:
    client.set("key", b"\xff")
    assert client.get("key") == b"\xff"


def test_the_broker_s_clock_counts_milliseconds(client: Broker) -> None:
    before_s = client.time()[0]
    assert before_s * 1000 <= now_ms(client) < (client.time()[0] + 1) * 1000


def test_the_clock_of_a_broker_that_is_down_is_unavailable(no_broker: Settings) -> None:
    with pytest.raises(BrokerUnavailable):
        now_ms(connect(no_broker))


@pytest.mark.parametrize("home", ["a b", "100%41", "c#1", "d?e=f"])
def test_the_path_of_the_broker_s_socket_arrives_as_it_is(home: str) -> None:
    settings = Settings(home=Path("/srv") / home)
    assert connect(settings).connection_pool.connection_kwargs["path"] == str(settings.broker_socket)


def test_a_web_process_fails_at_once_if_the_broker_is_down(no_broker: Settings) -> None:
    watch = Stopwatch()
    with pytest.raises(redis.ConnectionError):
        connect(no_broker).ping()
    assert watch.seconds < UNTRIED_S


def test_a_worker_s_command_outlasts_a_restart_of_the_broker(mortal_broker: Valkey) -> None:
    client = connect(mortal_broker.settings, patient=True)
    client.set("key", "before")
    mortal_broker.kill()
    value = outcome_of(lambda: client.get("key"))
    mortal_broker.start()
    assert value() == b"before"
    client.close()


def test_a_restart_between_two_commands_goes_unnoticed(mortal_broker: Valkey) -> None:
    client = connect_client(mortal_broker.settings)
    # Several connections, so that a second dead one would be met when the command is tried again.
    together = threading.Barrier(3)
    threads = [in_background(lambda: (together.wait(), client.blpop("nothing", 0.05))) for _ in range(3)]
    for thread in threads:
        thread.join(PATIENCE_S)
    mortal_broker.kill()
    mortal_broker.start()
    assert all(client.ping() for _ in range(4))
    client.close()


def test_a_connection_is_used_again(client: BrokerClient, settings: Settings) -> None:
    fresh = connect_client(settings)
    ids = {fresh.client_id() for _ in range(5)}
    assert len(ids) == 1
    fresh.close()


def test_a_lost_connection_returns_to_the_pool(no_broker: Settings) -> None:
    client = connect(changed(no_broker))
    client.connection_pool.max_connections = 2
    for _ in range(5):
        with pytest.raises(redis.ConnectionError, match="connecting|No such file"):
            client.ping()


def test_scripts_that_the_broker_has_forgotten_are_loaded_again(records: TaskRecords, client: BrokerClient) -> None:
    accepted(records)
    client.script_flush()
    assert records.get(accepted(records))["state"] == "queued"


@pytest.mark.parametrize("error", [redis.ConnectionError, redis.TimeoutError, redis.BusyLoadingError])
def test_a_broker_that_is_down_stuck_or_starting_is_unavailable(error: type[Exception]) -> None:
    with pytest.raises(BrokerUnavailable) as caught, broker_errors():
        raise error
    assert isinstance(caught.value.__cause__, error)


def test_a_mistake_of_ours_is_not_the_broker_s_absence(client: BrokerClient) -> None:
    client.set("text", "")
    with pytest.raises(redis.ResponseError, match="WRONGTYPE"), broker_errors():
        client.lpush("text", "item")


def test_every_key_is_graycat_s_own() -> None:
    keys = [live_key("llm"), fleet_key("llm"), record_key("x"), events_key("x"), worker_key("x")]
    keys += [artifact_key("x", 0), artifacts_key("x")]
    assert all(key.startswith("graycat:") for key in keys)
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize("connected", [False, True])
def test_a_broker_that_is_stuck_is_unavailable(mortal_broker: Valkey, connected: bool) -> None:
    client = connect(mortal_broker.settings)
    client.connection_pool.connection_kwargs["socket_timeout"] = 0.05
    if connected:
        client.ping()
    pid = mortal_broker.client.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        with pytest.raises(BrokerUnavailable), broker_errors():
            client.get("key")
    finally:
        os.kill(pid, signal.SIGCONT)
    client.close()


@pytest.mark.parametrize("connected", [False, True])
def test_a_silent_broker_costs_one_timeout_not_one_for_each_layer(mortal_broker: Valkey, connected: bool) -> None:
    client = connect(mortal_broker.settings, timeout_s=1.0)
    if connected:
        client.ping()
    pid = mortal_broker.client.info("server")["process_id"]
    os.kill(pid, signal.SIGSTOP)
    try:
        watch = Stopwatch()
        with pytest.raises(redis.TimeoutError):
            client.get("key")
        assert 1.0 <= watch.seconds < 1.9
    finally:
        os.kill(pid, signal.SIGCONT)
    assert client.get("key") is None
    client.close()


def test_a_patient_client_gives_up_in_time_although_each_try_takes_long() -> None:
    tries: list[Exception] = []

    def fail() -> None:
        threading.Event().wait(0.06)
        raise redis.TimeoutError

    with pytest.raises(redis.TimeoutError):
        BoundedRetry(NoBackoff(), 100, within_s=0.1).call_with_retry(fail, tries.append)
    # Each failure has closed its connection, the last one too.
    assert len(tries) == 2


def test_a_node_of_a_cluster_is_an_error_of_the_settings(tmp_path: Path) -> None:
    frail = FrailValkey(tmp_path)
    frail.begin()
    try:
        with cluster_node(frail), pytest.raises(SettingsError, match="node of a cluster"):
            check(Settings(redis_url=f"unix://{frail.settings.broker_socket}"))
    finally:
        frail.end()


def test_a_broker_that_reads_its_data_is_unavailable(scripted_broker) -> None:
    client = connect(scripted_broker(*[LOADING] * 20))
    with pytest.raises(BrokerUnavailable), broker_errors():
        client.get("key")
    client.close()


def test_a_broker_that_is_away_may_come_and_one_s_own_is_not_asked(no_broker: Settings) -> None:
    check(no_broker)
    watch = Stopwatch()
    check(Settings(redis_url=f"redis://127.0.0.1:{free_port()}/0"))
    assert watch.seconds < 2


def test_a_broker_that_does_not_know_us_is_an_error_of_the_settings(broker: Valkey) -> None:
    with pytest.raises(SettingsError, match="user and password") as caught:
        check(Settings(redis_url=f"unix://nobody:wrong@{broker.settings.broker_socket}"))
    assert "wrong" not in str(caught.value)
