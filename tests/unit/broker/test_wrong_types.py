from __future__ import annotations

import pytest
import redis

from graycat.broker.wrong_types import is_wrong_type, may_move, named_key
from tests.support.helpers import Valkey, changed


@pytest.mark.parametrize(
    ("url", "looks"),
    [
        ("redis://broker:6379/0", True),
        ("redis://:secret@broker:6379/0", True),
        ("redis://default:secret@broker:6379/0", True),
        ("rediss://desk:secret@broker:6379/0", False),
    ],
)
def test_a_box_does_not_look_for_them(broker: Valkey, url: str, looks: bool) -> None:
    assert may_move(changed(broker.settings, redis_url=url)) is looks
    assert may_move(broker.settings)


@pytest.mark.parametrize(
    ("message", "is_one", "named"),
    [
        ("WRONGTYPE list graycat:aside:a%00llm script: 7f, on @user_script:1.", True, {"graycat:aside:a\0llm": "list"}),
        ("WRONGTYPE Operation against a key holding the wrong kind of value", True, {}),
        ("WRONGTYPE zset %FF", True, {}),
        ("Command # 1 (HGET a b) of pipeline caused error: WRONGTYPE zset a", True, {"a": "zset"}),
        ("Command # 1 (HSET k WRONGTYPE zset a) of pipeline caused error: OOM no memory", False, {}),
        ("ERR WRONGTYPE zset a", False, {}),
        ("", False, {}),
    ],
)
def test_an_error_that_names_a_key(message: str, is_one: bool, named: dict[str, str]) -> None:
    error = redis.ResponseError(message)
    assert (is_wrong_type(error), named_key(error)) == (is_one, named)
    assert not is_wrong_type(ValueError(message))
