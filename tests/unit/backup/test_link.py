from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import redis

from graycat.backup import link as module
from graycat.backup.errors import BackupError
from graycat.backup.link import Link
from graycat.broker.release import parse_version
from graycat.cli.broker import build_server_command
from graycat.engines.process.child import ChildProcess
from graycat.settings import Settings
from tests.support.backups import contents_of, fill, restore_backup, write_backup
from tests.support.boxes import certificates
from tests.support.broker import BrokerClient
from tests.support.helpers import Valkey, eventually
from tests.support.ports import free_port
from tests.support.tlsproxy import tls_proxy

PASSWORD = "of the broker/@"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Yield the port of a broker that asks for a password."""
    folder, number = tmp_path_factory.mktemp("listening"), free_port()
    command = build_server_command(folder, folder / "socket")
    command[command.index("--port") + 1] = str(number)
    server = ChildProcess([*command, "--requirepass", PASSWORD], folder / "log")
    server.start()
    client = redis.Redis(port=number, password=PASSWORD)

    def answers() -> bool:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False

    eventually(answers)
    yield number
    client.close()
    server.stop()


def settings_for(url: str, **others: str) -> Settings:
    return Settings(redis_url=url, **others)  # type: ignore[arg-type]


def test_a_password_and_tls(valkey: Valkey, client: BrokerClient, port: int, tmp_path: Path) -> None:
    fill(client)
    write_backup(valkey.settings, tmp_path / "b")
    login = ":of%20the%20broker%2F%40@127.0.0.1"
    restore_backup(settings_for(f"redis://{login}:{port}/3"), tmp_path / "b")
    ca, server = certificates(tmp_path / "ca")
    with ExitStack() as stack:
        tls_port = stack.enter_context(tls_proxy(server, port))
        settings = settings_for(f"rediss://{login}:{tls_port}/3", redis_ca_file=str(ca))
        write_backup(settings, tmp_path / "again")
    assert contents_of(tmp_path / "again") == contents_of(tmp_path / "b")


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://:wrong@127.0.0.1:{port}/0", "does not take the user and password"),
        ("redis://127.0.0.1:{port}/0", "refuses: NOAUTH"),
        ("redis://127.0.0.1:1/0", "cannot be reached"),
    ],
)
def test_who_is_refused_is_told_why_and_no_password(port: int, url: str, said: str) -> None:
    with pytest.raises(BackupError, match=said) as caught, closing(Link(settings_for(url.format(port=port)))) as link:
        link.check()
    assert "wrong" not in str(caught.value)


@pytest.mark.parametrize(
    ("info", "said"),
    [
        ("redis_version:6.2.7\r\nrole:master\r\n", "redis 6.2.7; backups need 7.0"),
        ("redis_version:7.2.4\r\nvalkey_version:9.1.2\r\nserver_name:valkey\r\nrole:slave\r\n", "is a replica"),
        ("redis_version:7.2.4\r\nredis_mode:cluster\r\nrole:master\r\n", "is a node of a cluster"),
    ],
)
def test_a_broker_that_is_too_old_or_a_replica(
    valkey: Valkey, monkeypatch: pytest.MonkeyPatch, info: str, said: str
) -> None:
    with closing(Link(valkey.settings)) as link:
        assert parse_version(link.check()["version"]) >= (7, 0)
        monkeypatch.setattr(link, "ask", lambda *_: info.encode())
        with pytest.raises(BackupError, match=said):
            link.check()


def test_a_command_that_is_refused_is_an_error(valkey: Valkey) -> None:
    with closing(Link(valkey.settings)) as link:
        with pytest.raises(BackupError, match="the broker refuses NONSENSE: ERR unknown command"):
            link.ask("NONSENSE")
        assert link.ask("PING") == b"PONG"
        assert link.run([]) == []


def test_a_broker_that_does_not_answer(valkey: Valkey, client: BrokerClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "CONNECT_TIMEOUT_S", 0.2)
    monkeypatch.setattr(module, "REPLY_TIMEOUT_S", 0.1)
    with closing(Link(valkey.settings)) as link:
        # It pauses the command that would end it, too.
        client.execute_command("CLIENT", "PAUSE", 900, "ALL")
        with pytest.raises(BackupError, match="connection to the broker was lost: it does not answer"):
            link.ask("PING")
        with pytest.raises(BackupError, match="cannot be reached: it does not answer"):
            Link(valkey.settings)
    eventually(client.ping)


def test_all_that_is_pushed_comes_once(valkey: Valkey, client: BrokerClient) -> None:
    with closing(Link(valkey.settings)) as link:
        link.subscribe("news")
        for number in range(500):
            client.publish("news", number)
        found = link.pushed()
        client.publish("news", "last")
        assert [*found, *link.pushed()] == [*(b"%d" % number for number in range(500)), b"last"]
