from __future__ import annotations

import pytest
from click.testing import CliRunner

from graycat.cli.engine import engine


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no .env file asked."""
    monkeypatch.chdir(tmp_path)


def test_an_engine_that_runs_already_is_not_started() -> None:
    result = CliRunner().invoke(engine, ["llm"], env={"LLAMA_SERVER_URL": "http://box:1"})
    assert result.exit_code == 2
    assert "nothing to start" in result.output


def test_an_unknown_kind_is_a_usage_error() -> None:
    assert CliRunner().invoke(engine, ["control"]).exit_code == 2
