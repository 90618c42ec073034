from __future__ import annotations

import json
from dataclasses import FrozenInstanceError

import pytest

from graycat.engines.base import Engine, EngineInfo, Health, State, health_from_error
from graycat.engines.llama import LlamaEngine
from graycat.errors import EngineLost, EngineUnauthorized


def test_a_state_is_written_as_its_word() -> None:
    assert json.dumps(list(State)) == '["stopped", "downloading", "loading", "ready", "stuck"]'
    assert f"{State.READY}" == "ready"


def test_engine_info_is_immutable() -> None:
    with pytest.raises(FrozenInstanceError):
        EngineInfo(slots=1, props=b"{}").slots = 2  # type: ignore[misc]


def test_the_text_engine_is_an_engine() -> None:
    engine: Engine = LlamaEngine("llama-server", "http://127.0.0.1:1", start=None)
    assert (engine.name, engine.url, engine.command()) == ("llama-server", "http://127.0.0.1:1", None)


@pytest.mark.parametrize(
    ("cause", "health"),
    [(TimeoutError(), Health.UNRESPONSIVE), (ConnectionRefusedError(), Health.UNREACHABLE), (None, Health.UNREACHABLE)],
)
def test_a_failed_call_shows_whether_an_engine_is_stuck_or_unreachable(cause, health: Health) -> None:
    error = EngineLost()
    error.__cause__ = cause
    assert health_from_error(error) is health
    assert health_from_error(EngineUnauthorized()) is Health.UNAUTHORIZED
