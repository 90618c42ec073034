"""Sentinels, each a real one, of a real server. Failovers under load: tests/integration/test_sentinels.py."""

from __future__ import annotations

import signal
import threading
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from redis.sentinel import MasterNotFoundError

from graycat.broker import sentinel as sentinel_module
from graycat.broker.client import check, connect
from graycat.broker.connections import RawConnectionPool
from graycat.broker.sentinel import Sentinels
from graycat.errors import SettingsError
from graycat.settings import Settings
from graycat.settings.sentinel import parse
from tests.support.helpers import Stopwatch
from tests.support.proxies import Proxy
from tests.support.sentinels import MASTER, Trio, trio
from tests.support.stack import free_ports

PASSWORD, THEIRS = "of-the-broker", "of-the-sentinels"


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trio]:
    """Return one server, whose two sentinels never call it down."""
    folder = tmp_path_factory.mktemp("watched")
    with trio(folder, servers=1, sentinels=2, password=PASSWORD, sentinel_password=THEIRS) as made:
        yield made


@pytest.fixture
def settings(watched: Trio) -> Settings:
    return Settings(redis_url=watched.url, sentinel_password=THEIRS)


def sentinels_of(*ports: int) -> Sentinels:
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    return Sentinels(parse(f"sentinel://{hosts}/{MASTER}", password=THEIRS))


def test_both_kinds_of_connections_lead_to_the_master(settings: Settings) -> None:
    check(settings)
    client = connect(settings)
    client.set("key", "value")
    assert RawConnectionPool(client).run([("GET", "key")]) == [b"value"]
    client.close()


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"sentinel_password": ""}, "refuses the login: GRAYCAT_SENTINEL_PASSWORD"),
        ({"sentinel_password": "wrong"}, "refuses the login: GRAYCAT_SENTINEL_PASSWORD"),
        ({"master": "other"}, f"knows no master 'other', but {MASTER}$"),
        ({"password": "wrong"}, "does not take the user and password"),
        ({"server": True}, "answers as no sentinel does"),
    ],
)
def test_wrong_settings_are_named_at_the_start(watched: Trio, change: dict[str, object], complaint: str) -> None:
    url = watched.url.replace(f"/{MASTER}/", f"/{change.get('master', MASTER)}/")
    url = url.replace(PASSWORD, str(change.get("password", PASSWORD)))
    password = change.get("sentinel_password", THEIRS)
    if change.get("server"):
        url = f"sentinel://127.0.0.1:{watched.ports[0]}/{MASTER}"
        password = PASSWORD
    with pytest.raises(SettingsError, match=complaint):
        check(Settings(redis_url=url, sentinel_password=str(password)))


def test_sentinels_that_are_away_are_no_wrong_setting_and_no_wait(no_sentinels: Settings) -> None:
    watch = Stopwatch()
    check(no_sentinels)
    with pytest.raises(redis.ConnectionError):
        connect(no_sentinels).ping()
    assert watch.seconds < 3


@pytest.fixture
def no_sentinels() -> Settings:
    hosts = ",".join(f"127.0.0.1:{port}" for port in free_ports(3))
    return Settings(redis_url=f"sentinel://{hosts}/{MASTER}")


def test_a_sentinel_that_is_away_is_passed_over_and_asked_last_from_then_on(watched: Trio) -> None:
    (closed,) = free_ports(1)
    sentinels = sentinels_of(closed, watched.sentinel_ports[0])
    assert sentinels.discover_master(MASTER) == ("127.0.0.1", watched.ports[0])
    del sentinels.sentinels[0].connection_pool
    # It would raise AttributeError if it were asked again.
    assert sentinels.discover_master(MASTER) == ("127.0.0.1", watched.ports[0])


def test_a_silent_sentinel_costs_half_a_second_once(watched: Trio) -> None:
    silent, other = watched.sentinel_ports
    watched.signal(silent, signal.SIGSTOP)
    try:
        sentinels = sentinels_of(silent, other)
        watch = Stopwatch()
        assert sentinels.discover_master(MASTER)[1] == watched.ports[0]
        first_s = watch.seconds
        assert sentinels.discover_master(MASTER)[1] == watched.ports[0]
        assert watch.seconds - first_s < first_s
        assert 0.4 < first_s < 3
    finally:
        watched.signal(silent, signal.SIGCONT)


class CountingLock:
    """A lock that counts who has asked for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.asked = threading.Semaphore(0)

    def __enter__(self) -> None:
        self.asked.release()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_who_waits_while_another_one_searches_takes_what_that_one_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    sentinels = sentinels_of(1)
    lock, searches = CountingLock(), Counter[str]()
    monkeypatch.setattr(sentinels, "_lock", lock)

    def search(name: str) -> tuple[str, int]:
        searches[name] += 1
        for _ in range(8):
            assert lock.asked.acquire(timeout=30)
        return "found", 1

    monkeypatch.setattr(sentinels, "_search", search)
    with ThreadPoolExecutor(8) as callers:
        found = list(callers.map(sentinels.discover_master, ["main"] * 8))
    assert found == [("found", 1)] * 8
    assert searches == {"main": 1}


def test_a_sentinel_whose_server_cannot_be_reached_is_not_asked_first_again(watched: Trio) -> None:
    (closed,) = free_ports(1)
    stale, right = watched.sentinel_ports
    # What a sentinel says that has lost touch with the others.
    watched.sentinel(stale).execute_command("SENTINEL", "REMOVE", MASTER)
    watched.sentinel(stale).execute_command("SENTINEL", "MONITOR", MASTER, "127.0.0.1", closed, 2)
    url = f"sentinel://:{PASSWORD}@127.0.0.1:{stale},127.0.0.1:{right}/{MASTER}"
    client = connect(Settings(redis_url=url, sentinel_password=THEIRS), patient=True)
    try:
        assert client.ping()
    finally:
        client.close()
        watched.sentinel(stale).execute_command("SENTINEL", "REMOVE", MASTER)
        watched.sentinel(stale).execute_command("SENTINEL", "MONITOR", MASTER, "127.0.0.1", watched.ports[0], 2)
        watched.sentinel(stale).execute_command("SENTINEL", "SET", MASTER, "auth-pass", PASSWORD)


def test_however_many_connections_fail_the_next_sentinel_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    sentinels = sentinels_of(1, 2)
    asked = []

    def masters(sentinel: redis.Redis) -> dict[str, dict[str, object]]:
        port = sentinel.connection_pool.connection_kwargs["port"]
        asked.append(port)
        state = {"ip": "127.0.0.1", "port": port, "is_master": True, "num-other-sentinels": 1}
        return {MASTER: {**state, "is_sdown": False, "is_odown": False}}

    monkeypatch.setattr(sentinel_module, "_masters", masters)
    for failures in (0, 2, 3, 4):
        for _ in range(failures):
            sentinels.ask_another()
        assert sentinels.discover_master(MASTER) == ("127.0.0.1", asked[-1])
    assert asked == [1, 2, 1, 2]


@pytest.mark.parametrize("patient", [True, False])
def test_a_command_that_is_sent_again_goes_to_the_new_master(
    settings: Settings, watched: Trio, monkeypatch: pytest.MonkeyPatch, patient: bool
) -> None:
    old = Proxy(watched.master())
    old.start()
    named = [("127.0.0.1", old.port)]
    monkeypatch.setattr(Sentinels, "discover_master", lambda *_: named[-1])
    client = connect(settings, patient=patient)
    assert client.ping()
    old.stop()
    named.append(("127.0.0.1", watched.master()))
    # Its connection is lost only when it sends this.
    assert client.ping()
    client.close()


def test_a_master_that_no_sentinel_names_is_unavailable() -> None:
    with pytest.raises(MasterNotFoundError):
        sentinels_of(*free_ports(1)).discover_master(MASTER)
