"""``graycat status``, on the web application behind a real socket."""

from __future__ import annotations

import json
from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner, Result

from graycat.cli import cli
from graycat.cli.status import find_status_token
from graycat.errors import EngineLost
from graycat.fleet.reports import WorkerStatus
from graycat.fleet.workers import WorkerRegistry
from graycat.metrics.server import load_scrape_token, token_file
from graycat.settings import Settings
from tests.support.helpers import SECRET, changed, free_port, started

Graycat = Callable[..., Result]


@pytest.fixture
def graycat(live, broker, monkeypatch, tmp_path) -> Graycat:
    """Return how to run ``graycat status``, with the settings of the live server's machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PORT", str(urlsplit(live.url).port))
    monkeypatch.setenv("GRAYCAT_HOME", str(broker.settings.home))
    monkeypatch.setattr("graycat.status.snapshot.MAX_AGE_S", 0.0)

    def invoke(*words: str) -> Result:
        result = CliRunner().invoke(cli, ["status", *words], catch_exceptions=False)
        assert load_scrape_token(broker.settings) not in result.output
        return result

    return invoke


@pytest.fixture
def report(client) -> Callable[..., None]:
    """Return how to report a worker that serves some queues."""

    def report_worker(*queues: str, engine_state: str = "ready", consuming: bool = True) -> None:
        name, slots = f"{queues[0]}@box", 4
        WorkerRegistry(client).report(
            WorkerStatus(name, queues, "xllamacpp", engine_state, consuming=consuming, slots=slots, busy=0, props="")
        )

    return report_worker


@pytest.fixture
def serving_games(report) -> None:
    for queues in (("llm", "llm.batch"), ("llm.quick",), ("sd", "sd.batch")):
        report(*queues)


@pytest.mark.usefixtures("serving_games")
def test_if_games_are_served_it_exits_with_0(graycat: Graycat) -> None:
    result = graycat()
    assert (result.exit_code, "games are served" in result.stdout) == (0, True)
    assert "llm@box" in result.stdout
    assert result.stdout.endswith("\n\nnothing to do\n")


def test_if_games_are_not_served_it_exits_with_1(graycat: Graycat, report) -> None:
    report("llm", engine_state="loading", consuming=False)
    result = graycat()
    assert result.exit_code == 1
    assert "NOT SERVED: no worker consumes llm, llm.quick, sd" in result.stdout
    assert [line.strip() for line in result.stdout.partition("WHAT TO DO NEXT")[2].splitlines()[2::2]] == [
        *("graycat status --watch", "graycat worker quick", "graycat worker sd")
    ]


def test_if_the_server_is_unreachable_it_exits_with_3(graycat: Graycat) -> None:
    result = graycat("--url", f"http://127.0.0.1:{free_port()}", "--token", "any-token")
    assert (result.exit_code, result.stdout) == (3, "")
    assert "cannot be reached" in result.stderr
    assert result.stderr.endswith("No graycat runs here. Start it:\n    graycat up\n")


def test_if_none_was_ever_started_here_it_says_how(monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GRAYCAT_HOME", str(tmp_path / "var"))
    result = CliRunner().invoke(cli, ["status"], catch_exceptions=False)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith(f"graycat: there is no {tmp_path / 'var'}\n")
    assert result.stderr.endswith("Start it:\n    graycat up\n")
    # Elsewhere is another matter: there a token is missing.
    assert CliRunner().invoke(cli, ["status", "--url", "http://games.example"]).exit_code == 2


def test_a_server_elsewhere_is_not_started_from_here(graycat: Graycat) -> None:
    result = graycat("--url", "http://nowhere.invalid", "--token", "any-token")
    assert result.exit_code == 3
    assert "graycat up" not in result.stderr


def test_a_token_without_the_scope_is_refused(graycat: Graycat) -> None:
    result = graycat("--token", SECRET)
    assert (result.exit_code, "metrics" in result.stderr) == (4, True)


@pytest.mark.usefixtures("serving_games")
def test_scripts_get_json(graycat: Graycat, records) -> None:
    attempt = started(records, body=b'{"prompt": "my secret diary"}')
    records.fail(attempt, EngineLost())
    shown = json.loads(graycat("--json").stdout)
    assert (shown["served"], shown["broker"], shown["missed"]) == (True, True, [])
    assert {queue["name"] for queue in shown["queues"]} >= {"llm", "sd", "control"}
    (failure,) = shown["failures"]
    wanted = {"task_id": attempt.task_id, "kind": "llm.completion", "state": "failed", "status": 502}
    assert {name: failure[name] for name in wanted} == wanted
    assert (failure["type"], failure["worker"]) == ("engine_lost", "llm@here")
    assert "diary" not in json.dumps(shown)


@pytest.mark.usefixtures("serving_games")
def test_watching_repeats_until_it_is_interrupted(graycat: Graycat, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []

    def wait(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("graycat.cli.status.time", type("Clock", (), {"sleep": staticmethod(wait)}))
    result = graycat("--watch", "--every", "0.5")
    assert (result.exit_code, pauses) == (130, [0.5] * 3)
    assert result.stdout.count("games are served") == 3


def test_watching_outlives_the_server(graycat: Graycat, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("graycat.cli.status.time", type("Clock", (), {"sleep": staticmethod(stop)}))
    result = graycat("--watch", "--json", "--url", f"http://127.0.0.1:{free_port()}", "--token", "any-token")
    assert result.exit_code == 130
    assert json.loads(result.stdout)["served"] is False


def test_the_generated_token_goes_to_this_machine_only(tmp_path) -> None:
    settings = Settings(home=tmp_path, api_tokens=f"tests:{SECRET}")
    here, elsewhere = "http://127.0.0.1:8000", "https://games.example"
    assert find_status_token(settings, here) == SECRET
    generated = load_scrape_token(settings)
    assert token_file(settings).stat().st_mode & 0o077 == 0
    assert (find_status_token(settings, here), find_status_token(settings, elsewhere)) == (generated, SECRET)
    configured = changed(settings, metrics_token="a-scraper-of-the-tests")
    assert {find_status_token(configured, url) for url in (here, elsewhere)} == {"a-scraper-of-the-tests"}
