"""The types of the broker's client say nothing that redis-py does not have: mypy cannot see that, behind a cast."""

from __future__ import annotations

import inspect

import pytest
import redis
from redis.client import Pipeline as RedisPipeline

from graycat.broker.protocol import Broker, Pipeline, WatchingPipeline


def list_methods(protocol: type, implementation: type) -> list[tuple[type, str, type]]:
    names = [name for name, member in vars(protocol).items() if inspect.isfunction(member)]
    return [(protocol, name, implementation) for name in names if name not in ("__init__", "__subclasshook__")]


@pytest.mark.parametrize(
    ("protocol", "name", "implementation"),
    list_methods(Broker, redis.Redis)
    + list_methods(Pipeline, RedisPipeline)
    + list_methods(WatchingPipeline, RedisPipeline),
)
def test_redis_py_has_every_command_with_the_parameters_that_graycat_uses(
    protocol: type, name: str, implementation: type
) -> None:
    theirs = inspect.signature(getattr(implementation, name)).parameters
    takes_any_name = any(parameter.kind is parameter.VAR_KEYWORD for parameter in theirs.values())
    for parameter in inspect.signature(getattr(protocol, name)).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not takes_any_name:
            assert parameter.name in theirs
