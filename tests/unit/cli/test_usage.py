from __future__ import annotations

import json

import pytest
from click.testing import CliRunner, Result

from graycat.broker.client import now_ms
from graycat.broker.keys import usage_key
from graycat.cli.tokens import tokens
from graycat.usage.amounts import day_of
from tests.support.broker import BrokerClient
from tests.support.helpers import Valkey


@pytest.fixture(autouse=True)
def home(broker: Valkey, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have commands run in the home of the tests' broker."""
    monkeypatch.setenv("GRAYCAT_HOME", str(broker.settings.home))
    for name in ("REDIS_URL", "REDIS_HOST"):
        monkeypatch.setenv(name, "")


def graycat(*words: str) -> Result:
    return CliRunner().invoke(tokens, ["usage", *words])


def use(client: BrokerClient, day: str) -> None:
    for owner, name, amount in (("game", "requests", 12), ("game", "engine_ms", 3210), ("tools", "requests", 30)):
        client.hset(usage_key(day), f"{owner} llm {name}", amount)


def test_usage_is_a_table_with_a_sum(client: BrokerClient) -> None:
    today = day_of(now_ms(client)).isoformat()
    use(client, today)
    lines = graycat().stdout.splitlines()
    assert [line.split()[:4] for line in lines[1:3]] == [[today, "game", "llm", "12"], [today, "tools", "llm", "30"]]
    assert (lines[0].split()[0], lines[1].split()[-1], lines[3].split()[:2]) == ("DAY", "3.21", ["total", "42"])


def test_one_token_and_some_days_are_chosen(client: BrokerClient) -> None:
    for day in ("2026-10-01", "2026-10-02"):
        use(client, day)
    shown = json.loads(graycat("game", "--from", "2026-10-02", "--to", "2026-10-05", "--json").stdout)
    assert [(row["owner"], row["day"], row["gpu_seconds"]) for row in shown["rows"]] == [("game", "2026-10-02", 3.21)]
    assert (shown["from"], shown["to"], shown["total"]["requests"]) == ("2026-10-02", "2026-10-05", 12)


def test_a_table_without_rows_says_so(client: BrokerClient) -> None:
    result = graycat("--from", "2020-01-01", "--to", "2020-01-02")
    assert result.stdout == "nothing was used from 2020-01-01 to 2020-01-02 (UTC)\n"


def test_a_day_that_is_none_is_one_line(client: BrokerClient) -> None:
    result = graycat("--from", "yesterday")
    assert result.exit_code == 1
    assert result.stderr == "Error: 'from' must be a day such as 2026-11-29 (UTC)\n"
