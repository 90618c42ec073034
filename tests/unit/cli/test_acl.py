from __future__ import annotations

from hashlib import sha256
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from graycat.cli.acl import acl


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no .env file asked."""
    monkeypatch.chdir(tmp_path)


def made(*words: str, **env: str) -> Result:
    result = CliRunner().invoke(acl, ["worker", *words], env=env)
    assert result.exit_code == 0, result.output
    return result


def test_the_command_creates_the_user_with_a_new_password() -> None:
    lines = [made("box7").stdout for _ in range(2)]
    assert [line.startswith("ACL SETUSER box7 reset on >") for line in lines] == [True, True]
    assert len({line.split()[5] for line in lines}) == 2
    assert lines[0].count("\n") == 1


def test_the_command_may_have_a_hash_instead_of_the_password() -> None:
    result = made("box7", "--hash")
    password = result.stderr.removeprefix("password: ").strip()
    assert result.stdout.split()[5] == f"#{sha256(password.encode()).hexdigest()}"
    assert password not in result.stdout


def test_a_box_is_for_text_by_default() -> None:
    text, images = made("box7").stdout.split(), made("box7", "--kind", "sd").stdout.split()
    assert ("~llm" in text, "~llm.quick" in text, "~sd" in text) == (True, True, False)
    assert ("~llm" in images, "~llm.quick" in images, "~sd" in images) == (False, False, True)


def test_channels_are_those_of_the_broker_s_database() -> None:
    line = made("box7", REDIS_URL="rediss://:pw@broker:6380/5").stdout
    assert "&/5.celery.pidbox" in line
    assert "/0." not in line


def test_an_unknown_kind_is_a_usage_error() -> None:
    assert CliRunner().invoke(acl, ["worker", "box7", "--kind", "cook"]).exit_code == 2
