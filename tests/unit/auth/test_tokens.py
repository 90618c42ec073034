from __future__ import annotations

import hashlib
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from graycat.auth import tokens as apitokens
from graycat.auth.limits import Limits
from graycat.auth.tokens import ApiToken, ApiTokens, read_scopes
from graycat.errors import RequestError, SettingsError
from graycat.settings import Settings
from tests.support.helpers import PATIENCE_S, ROOT, eventually

#: Says that it is there, waits for the gate, and asks for the API token.
RACER = """
import sys
from pathlib import Path
from graycat.auth import tokens
from graycat.settings import Settings
home = Path(sys.argv[1])
Path(sys.argv[2]).touch()
while not (home.parent / "gate").exists(): pass
print(tokens.load_generated_token(Settings(home=home)))
"""


def test_secrets_may_have_names() -> None:
    settings = Settings(api_tokens="game:abcdefgh, bare-secret ,cron:12345678,")
    assert apitokens.parse_api_tokens(settings) == {"game": "abcdefgh", "token2": "bare-secret", "cron": "12345678"}


def test_a_secret_may_hold_a_colon() -> None:
    assert apitokens.parse_api_tokens(Settings(api_tokens="game:abcd:efgh")) == {"game": "abcd:efgh"}


@pytest.mark.parametrize(
    ("configured", "complaint"),
    [
        ("short", "token1"),
        ("game:1234567", "game"),
        ("game:", "game"),
        ("game:abcdefgh,game:12345678,game:23456789", "more than 2"),
        ("game:abcdefgh,game:abcdefgh", "same secret"),
        ("game/42:abcdefgh", "players"),
        ("abcdefgh,token1:12345678", "twice"),
    ],
)
def test_tokens_that_cannot_be_used_are_refused(configured: str, complaint: str) -> None:
    with pytest.raises(SettingsError, match=f"API_TOKENS.*{complaint}") as caught:
        ApiTokens.from_settings(Settings(api_tokens=configured))
    secret = configured.rpartition(":")[2]
    assert not secret or secret not in str(caught.value)


def test_a_configured_token_may_do_everything_but_change_what_all_share() -> None:
    tokens = ApiTokens.from_settings(Settings(api_tokens="game:abcdefgh,tools:12345678", admins="tools"))
    assert {token.name: sorted(token.scopes) for token in tokens} == {
        "game": ["batch", "llm", "sd"],
        "tools": ["admin", "batch", "llm", "sd"],
    }
    assert [token.admin for token in tokens] == [False, True]


def test_a_player_goes_on_its_own_account_and_on_its_game_s() -> None:
    narrow, wide = Limits(rate=1), Limits(rate=60)
    game = ApiToken("game", b"", limits=wide)
    assert game.holders == (("game", wide),)
    assert ApiToken("game/42", b"", limits=narrow, parent=game).holders == (("game/42", narrow), ("game", wide))


@pytest.mark.parametrize("value", [None, "llm", ["llm", "root"], [["llm"]], {"llm": True}, [1]])
def test_scopes_are_a_list_of_known_ones(value: Any) -> None:
    with pytest.raises(RequestError, match="scopes"):
        read_scopes(value)


def test_a_name_may_have_two_secrets_while_its_callers_change() -> None:
    settings = Settings(api_tokens="game:old-secret,cron:12345678,game:new-secret", admins="game")
    assert apitokens.parse_api_tokens(settings) == {"game": "new-secret", "cron": "12345678"}
    tokens = ApiTokens.from_settings(settings)
    for secret in ("old-secret", "new-secret"):
        found = tokens.find(secret)
        assert found is not None
        assert (found.name, found.admin) == ("game", True)
    assert ApiTokens.from_settings(Settings(api_tokens="game:new-secret")).find("old-secret") is None


def test_two_callers_cannot_share_a_secret() -> None:
    with pytest.raises(SettingsError, match="API_TOKENS"):
        ApiTokens.from_settings(Settings(api_tokens="game:abcdefgh,cron:abcdefgh"))


def test_a_caller_is_found_by_the_whole_secret() -> None:
    tokens = ApiTokens({"game": "abcdefgh", "cron": "12345678"})
    found = tokens.find("12345678")
    assert found is not None
    assert found.name == "cron"


@pytest.mark.parametrize("guess", ["", "abcdefg", "abcdefghi", "ABCDEFGH", " abcdefgh", "game", "game:abcdefgh", "ÿ"])
def test_anything_else_is_nobody(guess: str) -> None:
    assert ApiTokens({"game": "abcdefgh"}).find(guess) is None


def test_only_digests_are_kept() -> None:
    tokens = ApiTokens({"game": "abcdefgh"})
    found = tokens.find("abcdefgh")
    assert found is not None
    assert found.digest == hashlib.sha256(b"abcdefgh").digest()
    assert "abcdefgh" not in repr(found) + repr(vars(tokens))


def test_configured_tokens_leave_no_generated_one(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, api_tokens="game:abcdefgh")
    assert ApiTokens.from_settings(settings).find("abcdefgh") is not None
    assert not apitokens.token_file(settings).exists()


def test_the_generated_token_is_made_once_and_lets_its_reader_in(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path / "new")
    secret = apitokens.load_generated_token(settings)
    assert apitokens.load_generated_token(settings) == secret
    assert apitokens.token_file(settings).read_text() == secret + "\n"
    assert len(secret) >= 40
    found = ApiTokens.from_settings(settings).find(secret)
    assert found is not None
    assert found.name == "default"


def test_the_generated_token_is_its_owner_s_alone(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    apitokens.load_generated_token(settings)
    assert stat.S_IMODE(apitokens.token_file(settings).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["api-token"]


def test_two_copies_have_two_tokens(tmp_path: Path) -> None:
    assert len({apitokens.load_generated_token(Settings(home=tmp_path / name)) for name in ("a", "b")}) == 2


def test_processes_that_start_together_agree_on_one_token(tmp_path: Path) -> None:
    home, marks = tmp_path / "home", [tmp_path / str(number) for number in range(4)]
    racers = [
        subprocess.Popen([sys.executable, "-c", RACER, home, mark], cwd=ROOT, text=True, stdout=subprocess.PIPE)
        for mark in marks
    ]
    eventually(lambda: all(mark.exists() for mark in marks))
    (tmp_path / "gate").touch()
    secrets = {racer.communicate(timeout=PATIENCE_S)[0] for racer in racers}
    assert [racer.returncode for racer in racers] == [0] * 4
    assert secrets == {apitokens.token_file(Settings(home=home)).read_text()}
