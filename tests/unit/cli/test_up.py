from __future__ import annotations

import io
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from graycat.cli import broker, up
from graycat.cli.credentials import Credential
from graycat.errors import SettingsError
from graycat.fleet.processes import ProcessReports, ProcessStatus
from graycat.settings import Settings
from graycat.supervision.output import OutputPrinter
from graycat.supervision.startup import StartupConsole
from graycat.supervision.supervisor import ProcessSupervisor
from graycat.worker import stopping
from tests.support.helpers import Valkey, changed, eventually, free_port
from tests.support.servers import http_server, reply

EVERYTHING = {name: f"graycat {name}" for name in ("broker", "web")}
EVERYTHING |= {name: f"graycat worker {name}" for name in ("llm", "quick")}


def test_every_process_of_the_procfile_is_started() -> None:
    processes = up.list_processes(Settings())
    assert {"broker", "web", "llm", "quick", "control"} <= set(processes)
    assert processes["broker"] == "graycat broker"


@pytest.mark.parametrize("settings", [Settings(redis_url="redis://elsewhere"), Settings(redis_host="elsewhere")])
def test_with_a_remote_broker_none_is_started(settings: Settings) -> None:
    processes = up.list_processes(settings)
    assert "broker" not in processes
    assert "web" in processes


def test_a_procfile_of_ones_own_takes_the_place_of_the_list(tmp_path: Path) -> None:
    (tmp_path / "Procfile").write_text("web: graycat web\nmine: graycat worker llm --name mine\n")
    processes = up.list_processes(Settings(), tmp_path / "Procfile")
    assert processes == {"web": "graycat web", "mine": "graycat worker llm --name mine"}


def test_a_procfile_of_another_encoding_is_named(tmp_path) -> None:
    (tmp_path / "Procfile").write_bytes(b"caf\xe9: graycat web")
    with pytest.raises(SettingsError, match="Procfile: byte 4 is not in UTF-8"):
        up.list_processes(Settings(), tmp_path / "Procfile")


def test_processes_find_this_python_s_commands_and_the_same_home(monkeypatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "/usr/bin")
    monkeypatch.setenv("SOMETHING", "else")
    (tmp_path / ".env").write_text("FROM_FILE=yes\n")
    env = up.child_environment(Settings(home=Path("var")))
    assert env["PATH"].split(os.pathsep) == [str(Path(sys.executable).parent), "/usr/bin"]
    assert env["GRAYCAT_HOME"] == str(tmp_path / "var")
    assert (env["SOMETHING"], env["FROM_FILE"], env["PYTHONUNBUFFERED"]) == ("else", "yes", "1")


@pytest.fixture(params=["127.0.0.1", "0.0.0.0"])  # noqa: S104 (another program may listen on all addresses)
def taken_port(request: pytest.FixtureRequest) -> Iterator[int]:
    """Return a port on which a program listens."""
    with socket.socket() as listener:
        listener.bind((request.param, 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.mark.parametrize(("name", "variable"), [("port", "PORT"), ("llm_port", "LLM_PORT")])
def test_a_port_that_is_taken_names_its_variable(taken_port: int, name: str, variable: str) -> None:
    ports: dict[str, Any] = {"port": free_port(), "llm_port": free_port()} | {name: taken_port}
    with pytest.raises(SettingsError, match=rf"\b{taken_port}\b.* {variable}=") as caught:
        up.check_ports(Settings(**ports), EVERYTHING)
    assert "\n" not in str(caught.value)


def error_of(settings: Settings, processes: dict[str, str]) -> str:
    """Return what is said against a start; nothing where it may go on."""
    try:
        up.check_ports(settings, processes)
    except SettingsError as error:
        return str(error)
    return ""


def test_free_ports_are_fine_and_stay_free() -> None:
    settings = Settings(port=free_port(), llm_port=free_port())
    assert [error_of(settings, EVERYTHING) for _ in range(2)] == ["", ""]


def test_a_port_that_no_process_uses_may_be_taken(taken_port: int) -> None:
    adopting = Settings(port=free_port(), llm_port=taken_port, llama_server_url="http://box:1")
    assert error_of(adopting, EVERYTHING) == ""
    for settings in (Settings(port=taken_port), Settings(llm_port=taken_port)):
        assert error_of(settings, {"broker": "graycat broker"}) == ""


@pytest.mark.parametrize("host", ["203.0.113.1", "no such host", "::::"])
def test_an_address_that_is_not_this_machine_s_names_its_variable(host: str) -> None:
    with pytest.raises(SettingsError, match="HOST"):
        up.check_ports(Settings(host=host, port=free_port(), llm_port=free_port()), EVERYTHING)


def test_the_server_says_why_it_is_not_ready() -> None:
    with http_server({"GET /ready": reply(503, {"ready": False, "reason": "nobody consumes llm"})}) as seen:
        assert up.why_not_ready(seen.url) == "nobody consumes llm"
        seen.answers["GET /ready"] = reply(200, {"ready": True, "reason": ""})
        assert up.why_not_ready(seen.url) == ""


def test_an_unreachable_web_server_is_not_ready() -> None:
    assert "web server" in up.why_not_ready(f"http://127.0.0.1:{free_port()}")


def test_another_web_server_is_not_ready() -> None:
    with http_server({"GET /ready": reply(502, b"<html>Bad Gateway</html>")}) as seen:
        assert up.why_not_ready(seen.url)


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # noqa: S104 (nothing listens there: it is only printed)
def test_when_everything_is_ready_the_first_request_is_printed(monkeypatch, host: str) -> None:
    monkeypatch.setattr(up, "POLL_INTERVAL_S", 0.01)
    console = StartupConsole(OutputPrinter([], io.StringIO()))
    with http_server({"GET /ready": reply(503, {"reason": "nobody consumes llm"})}) as seen:
        port = int(seen.url.rpartition(":")[2])

        def ready_soon(handler) -> None:
            reply(503, {"reason": "nobody consumes llm"})(handler)
            seen.answers["GET /ready"] = reply(200, {"ready": True})

        seen.answers["GET /ready"] = ready_soon
        token = Credential("API_TOKENS", Path("/home/me/api-token"), "the-secret")
        up.announce(Settings(host=host, port=port, flower=False, public_url="https://play.example"), token, console)
    assert console.reason == "nobody consumes llm"
    printed = console.greeting
    assert printed.endswith(f"\ngraycat is ready at http://127.0.0.1:{port}\nCtrl-C stops everything.\n")
    assert "Callers use https://play.example (GRAYCAT_PUBLIC_URL)\n" in printed
    # What is captured is no terminal.
    assert "API token: in /home/me/api-token\n" in printed
    assert '  export TOKEN="$(cat /home/me/api-token)"\n' in printed
    assert f'curl http://127.0.0.1:{port}/v1/chat/completions -H "Authorization: Bearer $TOKEN"' in printed
    assert "the-secret" not in printed


def test_the_lines_to_paste_lead_another_terminal_to_this_graycat(monkeypatch, tmp_path: Path) -> None:
    folder = tmp_path / "my game"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "base_prefix", "/usr")
    token = Credential("API_TOKENS", Path("/home/me/api-token"), "")
    for prefix, activate in ((folder / ".venv", ".venv/bin/activate"), (Path("/opt/venv"), "/opt/venv/bin/activate")):
        monkeypatch.setattr(sys, "prefix", str(prefix))
        lines = list(up.paste_lines(Settings(), token))
        assert lines == [f"cd '{folder}'", f". {activate}", "export TOKEN=YOUR_API_TOKEN"]
    monkeypatch.setattr(sys, "prefix", "/usr")
    lines = list(up.paste_lines(Settings(home=Path("state")), token))
    assert lines == [f"cd '{folder}'", f"export GRAYCAT_HOME='{folder}/state'", "export TOKEN=YOUR_API_TOKEN"]


def test_the_first_request_is_one_that_this_server_s_engines_answer() -> None:
    address = "http://127.0.0.1:8000"
    assert f"curl {address}/v1/chat/completions " in up.suggest(Settings(), address)[0]
    assert f"curl {address}/generate-image " in up.suggest(Settings(run_llm=False), address)[0]
    assert f"curl {address}/ready " in up.suggest(Settings(run_llm=False, run_sd=False), address)[0]


def test_a_machine_that_has_stopped_is_not_reported_any_more(broker: Valkey, monkeypatch, tmp_path: Path) -> None:
    """Where the broker is elsewhere, it outlives the machine."""
    reports = ProcessReports(broker.client)
    seen: list[list[str]] = []

    class EndsWhenReported(ProcessSupervisor):
        def run(self) -> None:
            self.report([ProcessStatus("idle", "running", 17)])
            seen.append(list(eventually(reports.read)))

    monkeypatch.setattr(up, "ProcessSupervisor", EndsWhenReported)
    monkeypatch.setattr(up, "announce", lambda *_: None)
    monkeypatch.setattr(Settings, "from_env", lambda: changed(broker.settings, box="here"))
    (tmp_path / "Procfile").write_text("idle: sleep 60\n")
    start: Any = up.up.callback
    start(tmp_path / "Procfile")
    assert (seen, reports.read()) == ([["here"]], {})


def test_nothing_starts_without_what_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = Settings()
    up.check_installed(settings, EVERYTHING)
    with pytest.raises(SettingsError, match="celery-exporter"):
        up.check_installed(changed(settings, exporter_python=Path("nowhere/python")), {"exporter": "graycat exporter"})
    monkeypatch.setattr("graycat.settings.extras.BROKER", ("not_there_at_all",))
    with pytest.raises(SettingsError, match="the embedded broker needs more packages"):
        up.check_installed(settings, EVERYTHING)
    # A broker elsewhere needs nothing here.
    up.check_installed(settings, {"web": "graycat web"})


def test_a_store_whose_packages_are_missing_is_told_before_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(SettingsError, match=r"GRAYCAT_ARTIFACTS_URL .*pip install 'graycat\[s3\]'"):
        up.check_stores(Settings(artifacts_url="s3://bucket/images"))
    with pytest.raises(SettingsError, match="GRAYCAT_BATCH_DIR"):
        up.check_stores(Settings(batch_dir="nosuch://bucket/images"))
    up.check_stores(Settings(artifacts_url="file:///srv/images", batch_dir="/srv/batches"))


def test_a_worker_that_ends_by_itself_is_not_killed_before() -> None:
    assert up.STOP_MARGIN_S > stopping.LAST_S + stopping.LOG_TIMEOUT_S


def test_the_broker_outlives_the_last_words_of_every_worker() -> None:
    worker_s = stopping.LAST_S + stopping.LOG_TIMEOUT_S
    assert worker_s < broker.DISCONNECT_TIMEOUT_S < up.STOP_MARGIN_S


def test_a_variable_that_begins_as_ours_and_is_none_is_a_line_and_no_refusal(monkeypatch, capsys, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRAYCAT_PROT", "8001")
    monkeypatch.setenv("API_TOKEN", "another program's")
    up.tell_unknown_names()
    assert capsys.readouterr() == ("", "graycat: GRAYCAT_PROT is no setting of graycat; did you mean PORT?\n")
