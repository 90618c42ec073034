"""Changes a key that nobody else may change meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import redis

from graycat.broker.protocol import Broker, Key, WatchingPipeline


def change_watched(client: Broker, key: Key, change: Callable[[WatchingPipeline], None]) -> None:
    """Let ``change`` read a key and, behind ``multi``, write it; again if another client has changed it meanwhile.

    redis-py's ``transaction`` does the same, but takes a lost connection for a change of the key, and tries again
    without a pause for as long as the broker reads its data (redis-py 8.1). Raises what redis-py raises.
    """
    while True:
        pipe = cast(WatchingPipeline, client.pipeline())
        try:
            pipe.watch(key)
            change(pipe)
            pipe.execute()
            return
        except redis.WatchError as error:
            cause = error.__context__
            if isinstance(cause, redis.RedisError):
                raise cause from None
        finally:
            pipe.reset()
