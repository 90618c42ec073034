from __future__ import annotations

from pathlib import Path

import pytest

from graycat.auth.limits import UNLIMITED
from graycat.auth.minted import Grant, MintedTokens
from graycat.auth.signing import SigningKey
from graycat.cli.running import lock_home
from tests.support.broker import BrokerClient
from tests.support.helpers import Valkey
from tests.unit.cli.test_backup import Run
from tests.unit.cli.test_backup import run as run


@pytest.fixture
def file(valkey: Valkey, client: BrokerClient, run: Run, tmp_path: Path) -> Path:
    """Return the backup of a home with an API token."""
    tokens = MintedTokens(client, SigningKey.from_settings(valkey.settings))
    tokens.mint(Grant("app", limits=UNLIMITED))
    assert run("backup", str(tmp_path / "b"))[0] == 0
    (valkey.settings.home / "token-key").unlink()
    return tmp_path / "b"


def test_another_machine_gets_all_and_its_broker_ends(file: Path, run: Run, tmp_path: Path) -> None:
    home = tmp_path / "home"
    status, out, err = run("restore", str(file), home=home)
    assert (status, err) == (0, "")
    assert out.startswith("restored 1 API tokens, as of 20")
    assert "see graycat tokens list" in out
    assert (home / "token-key").is_file()
    # What listened on it was for the command alone.
    status, out, err = run("restore", str(file), home=home)
    assert (status, out) == (1, "")
    assert err == "Error: the broker is not empty, it has 1 API tokens: --replace deletes that\n"
    status, out, err = run("restore", "--replace", str(file), home=home)
    assert (status, "deleted before: 1 API tokens" in out) == (0, True)


def test_a_damaged_file_starts_nothing(file: Path, run: Run, tmp_path: Path) -> None:
    file.write_bytes(file.read_bytes()[:-100])
    status, out, err = run("restore", str(file), home=tmp_path / "home")
    assert (status, out) == (1, "")
    assert err.startswith(f"Error: {file} is no backup of graycat, or is not whole")
    assert not (tmp_path / "home").exists()


def test_tokens_of_another_key_are_said_to_be_refused(
    file: Path, run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GRAYCAT_TOKEN_KEY", "a key of the settings, which is another one")
    status, _, err = run("restore", str(file), home=tmp_path / "home")
    assert (status, "they will be refused" in err) == (0, True)


def test_a_home_that_another_graycat_uses(file: Path, run: Run, tmp_path: Path) -> None:
    with lock_home(tmp_path / "home"):
        status, out, err = run("restore", str(file), home=tmp_path / "home")
    assert (status, out, "another graycat uses" in err) == (2, "", True)
