from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from graycat.engines import factory
from graycat.families import BY_NAME, LLM, SD
from graycat.settings import Settings

KEY = "a-key-of-the-engines"


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(home=tmp_path)


@pytest.mark.parametrize(("kind", "name"), [("llm", "xllamacpp"), ("sd", "placeholder")])
def test_a_started_engine_has_a_process_and_a_download(settings: Settings, kind: str, name: str) -> None:
    ours = factory.build_engine(settings, BY_NAME[kind], None)
    assert (ours.engine.name, ours.gpu) == (name, None)
    assert ours.child is not None
    assert ours.supervisor.download is not None


def test_an_adopted_engine_has_neither(settings: Settings) -> None:
    adopting = replace(settings, llama_server_url="http://box:1", a1111_url="http://box:2")
    for ours in (factory.build_engine(adopting, LLM, None), factory.build_engine(adopting, SD, None)):
        assert (ours.child, ours.supervisor.download) == (None, None)
    assert factory.build_engine(settings, LLM, None, own=False).child is None


@pytest.mark.parametrize("key", ["", KEY])
def test_the_key_of_an_engine_is_in_its_environment_and_no_other_secret(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("REDIS_PASS", "a-secret")
    made: list[dict[str, str]] = []
    monkeypatch.setattr(factory, "ShimmedProcess", lambda _command, _output, environment: made.append(environment))
    factory.build_engine(replace(settings, engine_api_key=key), LLM, None)
    assert made[0].get(factory.KEY_VARIABLE, "") == key
    assert "a-secret" not in made[0].values()
