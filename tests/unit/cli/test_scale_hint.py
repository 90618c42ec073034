"""``graycat scale-hint``, on the web application behind a real socket."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner, Result

from graycat.broker.keys import needs_key
from graycat.cli import cli
from graycat.cli.scale_hint import EXIT_UNKNOWN, FIELDS
from graycat.client import Client
from tests.support.helpers import SECRET, accepted, free_port

Graycat = Callable[..., Result]


@pytest.fixture
def graycat(live, broker, monkeypatch, tmp_path) -> Graycat:
    """Return how to run ``graycat scale-hint``, with the settings of the live server's machine."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PORT", str(urlsplit(live.url).port))
    monkeypatch.setenv("GRAYCAT_HOME", str(broker.settings.home))
    monkeypatch.setattr("graycat.status.snapshot.MAX_AGE_S", 0.0)
    return lambda *words: CliRunner().invoke(cli, ["scale-hint", *words], catch_exceptions=False)


def test_a_script_gets_one_number(graycat: Graycat, records) -> None:
    assert (graycat("llm").stdout, graycat("sd").stdout) == ("1\n", "1\n")
    for _ in range(150):
        accepted(records)
    # 150 tasks that are not measured, 10 s each, in 60 s: 25 slots, four a worker.
    assert graycat("llm").stdout == "7\n"


def test_it_says_from_what_the_number_follows(graycat: Graycat, records) -> None:
    accepted(records)
    shown = json.loads(graycat("--json").stdout)
    assert (shown["llm"]["hint"], shown["llm"]["waiting"], shown["llm"]["max"]) == (1, 1, 8)
    assert json.loads(graycat("llm", "--json").stdout) == shown["llm"]
    lines = graycat().stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [["FAMILY", "HINT"], ["llm", "1"], ["sd", "1"]]


def test_a_number_that_is_not_known_is_not_printed(graycat: Graycat, client) -> None:
    client.set(needs_key("llm"), "written by another program")
    result = graycat("llm")
    assert (result.exit_code, result.stdout) == (EXIT_UNKNOWN, "")
    assert "cannot be read" in result.stderr
    assert graycat("sd").stdout == "1\n"


ROW: dict[str, object] = dict.fromkeys(FIELDS, 1)


@pytest.mark.parametrize(
    "scale",
    [
        [ROW],
        "2",
        {"llm": 2},
        {"llm": {"hint": 2}},
        {"llm": ROW | {"hint": "2; reboot"}},
        {"llm": ROW | {"hint": -1}},
        {"llm": ROW | {"hint": 1.5}},
        {"llm": ROW | {"hint": True}},
        {"llm": ROW | {"need": float("nan")}},
    ],
    ids=str,
)
@pytest.mark.parametrize("words", [["llm"], [], ["--json"]], ids=str)
def test_a_server_that_answers_something_else_gives_no_number(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, scale: object, words: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Client, "status", lambda _: {"scale": scale})
    result = CliRunner().invoke(cli, ["scale-hint", *words, "--url", "http://127.0.0.1:1", "--token", "a-token"])
    assert (result.exit_code, result.stdout) == (EXIT_UNKNOWN, "")
    assert "something else" in result.stderr


def test_neither_is_one_of_a_server_that_is_away_or_refuses(graycat: Graycat) -> None:
    result = graycat("llm", "--url", f"http://127.0.0.1:{free_port()}", "--token", "any-token")
    assert (result.exit_code, result.stdout) == (3, "")
    result = graycat("llm", "--token", SECRET)
    assert (result.exit_code, result.stdout) == (4, "")


def test_another_family_is_no_family(graycat: Graycat) -> None:
    assert graycat("control").exit_code == 2


def test_a_broker_that_is_away_leaves_no_number(graycat: Graycat, monkeypatch) -> None:
    away = {"served": False, "reason": "the broker is not available", "broker": False, "scale": {}}
    monkeypatch.setattr("graycat.cli.scale_hint.Client.status", lambda _: away)
    result = graycat("llm")
    assert (result.exit_code, result.stdout) == (EXIT_UNKNOWN, "")
    assert "the broker is not available" in result.stderr
    monkeypatch.setattr("graycat.cli.scale_hint.Client.status", lambda _: {"served": True})
    assert "older release" in graycat().stderr
