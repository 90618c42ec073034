"""``graycat tokens``: what an operator types, and sees."""

from __future__ import annotations

import re

import pytest
from click.testing import CliRunner, Result

from graycat.auth.authenticator import Authenticator
from graycat.auth.limits import Limits
from graycat.auth.tokens import ApiToken
from graycat.broker.client import connect
from graycat.cli.tokens import tokens
from graycat.settings import Settings
from tests.support.helpers import SECRET, Valkey, free_port


@pytest.fixture
def home(broker: Valkey, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Have commands run in the home of the tests' broker."""
    return use(broker.settings, monkeypatch)


def use(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("GRAYCAT_HOME", str(settings.home))
    monkeypatch.setenv("API_TOKENS", settings.api_tokens)
    for name in ("REDIS_URL", "REDIS_HOST", "GRAYCAT_TOKEN_KEY", "GRAYCAT_ADMINS"):
        monkeypatch.setenv(name, "")
    return settings


def graycat(*words: str) -> Result:
    return CliRunner().invoke(tokens, list(words))


def found(settings: Settings, secret: str) -> ApiToken | None:
    return Authenticator.from_settings(settings, connect(settings)).find(secret)


def test_a_token_is_printed_alone_so_that_a_script_can_take_it(home: Settings) -> None:
    result = graycat("create", "game")
    assert result.exit_code == 0
    token = found(home, result.stdout.rstrip("\n"))
    assert token is not None
    assert (token.name, token.scopes, token.limits, token.expires_at) == (
        "game",
        frozenset({"llm", "sd", "batch"}),
        Limits(),
        None,
    )
    assert token.prefix in result.stderr
    assert result.stdout.strip() not in result.stderr


def test_a_token_has_what_its_options_say(home: Settings) -> None:
    options = "--scope llm --scope admin --expires 30d --rate 60 --concurrency 4 --queued 8 --max-tokens 512"
    result = graycat("create", "game", *options.split(), "--max-pixels", "262144")
    token = found(home, result.stdout.strip())
    assert token is not None
    assert token.scopes == {"llm", "admin"}
    assert token.limits == Limits(60, 4, 8, 512, 262144)
    assert token.expires_at is not None


def test_tokens_are_listed_in_a_table(home: Settings) -> None:
    secret = graycat("create", "game", "--scope", "llm", "--rate", "60", "--expires", "12h").stdout.strip()
    found(home, secret)
    graycat("create", "cron-7")
    head, *rows = graycat("list").stdout.splitlines()
    # Made in the same second, they may come in any order.
    cron, game = sorted(rows, key=lambda row: row.split()[1])
    columns = ["PREFIX", "NAME", "SCOPES", "LIMITS", "CREATED", "EXPIRES", "LAST USED", "OLD SECRET UNTIL"]
    assert re.split("  +", head) == columns
    day = r"\d{4}-\d\d-\d\d \d\d:\d\d"
    assert re.fullmatch(rf"{secret[:11]}  game    llm +rate=60  {day}  {day}  {day} +-", game)
    assert re.fullmatch(rf"gc_\w{{8}}  cron-7  batch,llm,sd  -        {day}  - +- +-", cron)


@pytest.mark.parametrize("by", ["name", "prefix"])
def test_a_token_is_rotated_by_either(home: Settings, by: str) -> None:
    old = graycat("create", "game").stdout.strip()
    result = graycat("rotate", "game" if by == "name" else old[:11], "--overlap", "2h")
    new = result.stdout.strip()
    assert found(home, old) == found(home, new) is not None
    assert "the one before is accepted until" in result.stderr
    assert new not in result.stderr
    assert "two live secrets" in graycat("rotate", "game").stderr
    at_once = graycat("rotate", "game", "--overlap", "0")
    assert (found(home, old), found(home, new)) == (None, None)
    assert found(home, at_once.stdout.strip()) is not None
    assert "refused within two seconds" in at_once.stderr


@pytest.mark.parametrize("by", ["name", "prefix"])
def test_a_token_is_revoked_by_either(home: Settings, by: str) -> None:
    secret = graycat("create", "game").stdout.strip()
    result = graycat("revoke", "game" if by == "name" else secret[:11])
    assert (result.exit_code, found(home, secret)) == (0, None)
    assert graycat("list").stdout.splitlines()[1:] == []


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        ("revoke nobody", "no minted API token"),
        ("rotate nobody", "no minted API token"),
        ("rotate game --overlap soon", "soon"),
        ("rotate game --overlap 9999w", "overlap_s"),
        ("create a/b", "name"),
        ("create tests", "API_TOKENS"),
        ("create game --rate 0", "rate"),
        ("create game --scope root", "root"),
        ("create game --expires soon", "soon"),
        ("create game --expires 0d", "0d"),
        ("create game --expires 999999999w", "ttl_s"),
    ],
)
def test_an_invalid_argument_is_one_line(home: Settings, words: str, complaint: str) -> None:
    result = graycat(*words.split())
    assert result.exit_code in (1, 2)
    assert complaint in result.stderr.splitlines()[-1]
    assert result.stdout == ""


def test_the_wrong_folder_is_named_and_stays_empty(no_broker: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    use(no_broker, monkeypatch)
    monkeypatch.setenv("API_TOKENS", "")
    result = graycat("create", "game")
    told = f"Error: no broker answers in {no_broker.home}: run this in the folder where graycat was started, "
    assert (result.exit_code, result.stderr) == (1, told + "or set GRAYCAT_HOME; 'graycat up' starts one\n")
    assert list(no_broker.home.iterdir()) == []


def test_a_broker_of_your_own_that_is_away_is_one_line(no_broker: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    use(no_broker, monkeypatch)
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port()}")
    result = graycat("list")
    told = "Error: the broker of REDIS_URL or REDIS_HOST does not answer (docs/broker.md)\n"
    assert (result.exit_code, result.stderr) == (1, told)


def test_a_token_of_another_key_can_be_seen_and_revoked(home: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = graycat("create", "game").stdout.strip()
    monkeypatch.setenv("GRAYCAT_TOKEN_KEY", "k" * 32)
    assert "another GRAYCAT_TOKEN_KEY" in graycat("list").stdout
    assert graycat("revoke", secret[:11]).exit_code == 0
    assert SECRET not in graycat("list").output
