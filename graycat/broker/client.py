"""The broker as a store: the Redis client, and every key's name."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry

from graycat.errors import BrokerUnavailable, SettingsError
from graycat.settings import Settings, variable

#: Every key but Celery's own begins so.
PREFIX = "graycat:"
#: What the beats share begins so: their lock, and when they last ticked.
BEAT = PREFIX + "beat:"
#: Ids of the schedules; held by who fires what is due of them; when that was last done (seconds).
SCHEDULES, FIRING, FIRED_AT = PREFIX + "schedules", PREFIX + "schedules:firing", PREFIX + "schedules:fired"
#: Ids of unfinished tasks, by the time they were submitted.
LIVE_TASKS = PREFIX + "live"
#: How long tasks take, by kind (ms).
MEANS = PREFIX + "means"
#: What webhooks are still to be told, as ``TASK_ID EVENT``, by the time when that is due.
DELIVERIES = PREFIX + "deliveries"
#: How long what is known of a delivery is kept: a day of tries, and an hour to look at how it ended.
DELIVERY_TTL_S = 25 * 3600
#: Queues from which nobody is to take anything for now.
PAUSED_QUEUES = PREFIX + "paused"
#: Queues in which owners wait for their turns.
TURNS = PREFIX + "turns"
#: The newest failures of tasks (stream), a week long.
FAILURES = PREFIX + "failures"
#: Names of the workers, by the time of their last sign of life.
FLEET = PREFIX + "fleet"
#: Minted API tokens by their prefixes, and when each was last used.
API_TOKENS, API_TOKENS_USED = PREFIX + "tokens", PREFIX + "tokens:used"

#: A ``redis.Redis`` whose replies are bytes. Its own annotations cover every way of decoding at once, so they
#: would have to be narrowed at each call.
Broker = Any

_SCRIPTS = Path(__file__).parents[1] / "scripts"


def listed_key(owner: str) -> str:
    """Return the key of the ids of one API token's tasks that it may ask for, by the time they were submitted."""
    return f"{PREFIX}listed:{owner}"


def owned_key(owner: str) -> str:
    """Return the key of the ids of one API token's unfinished tasks, by the time they were submitted."""
    return f"{LIVE_TASKS}:{owner}"


def players_key(owner: str) -> str:
    """Return the key of the ids of the unfinished tasks of all players of one API token."""
    return f"{LIVE_TASKS}-players:{owner}"


def rate_key(owner: str) -> str:
    """Return the key of the ids of the tasks that one API token began in the last minute."""
    return f"{PREFIX}rate:{owner}"


def record_key(task_id: str) -> str:
    """Return the key of a task's record."""
    return f"{PREFIX}task:{task_id}"


def events_key(task_id: str) -> str:
    """Return the key of a task's event stream."""
    return f"{PREFIX}events:{task_id}"


def catalog_key(name: str) -> str:
    """Return the key of what a worker's engine answers without work."""
    return f"{PREFIX}catalog:{name}"


def preview_key(task_id: str) -> str:
    """Return the key of a task's newest preview image."""
    return f"{PREFIX}preview:{task_id}"


def artifact_key(task_id: str, number: int) -> str:
    """Return the key of a finished image's bytes."""
    return f"{PREFIX}artifact:{task_id}:{number}"


def artifacts_key(task_id: str) -> str:
    """Return the key of what is known of a task's finished images."""
    return f"{PREFIX}artifacts:{task_id}"


def worker_key(name: str) -> str:
    """Return the key of a worker's record in the fleet."""
    return f"{PREFIX}worker:{name}"


def delivery_key(task_id: str, event: str) -> str:
    """Return the key of one delivery to a webhook: what it tells, and how its tries went."""
    return f"{PREFIX}delivery:{task_id}:{event}"


def receiver_key(host: str) -> str:
    """Return the key of the deliveries under way to one receiver, by the time when their place is free again."""
    return f"{PREFIX}receiver:{host}"


def sender_key(owner: str) -> str:
    """Return the key of the deliveries under way for one API token, by the time when their place is free again."""
    return f"{PREFIX}sender:{owner}"


def schedule_keys(schedule_id: str) -> list[str]:
    """Return the keys of a schedule (``OWNER:NAME``): its record, the times that wait for a batch, its last fires."""
    record = f"{PREFIX}schedule:{schedule_id}"
    return [record, f"{record}:waiting", f"{record}:fires"]


def connect(settings: Settings, *, patient: bool = False, timeout_s: float = 2.0) -> Broker:
    """Return a client of the broker; replies are bytes.

    A web process is impatient: it rather tells its client to come back. A worker is patient: it holds
    the work of minutes, and tries for about ten seconds before it gives a command up. ``timeout_s``: how long one try
    may take.
    """
    retry = Retry(ExponentialBackoff(cap=1.0, base=0.05), 14) if patient else Retry(NoBackoff(), 1)
    pool = TrustingPool.from_url(
        settings.broker_url,
        retry=retry,
        socket_connect_timeout=1.0,
        socket_timeout=timeout_s,
        # One ping finds a dead connection before a request does.
        health_check_interval=30,
        max_connections=10_000,
    )
    return redis.Redis.from_pool(pool)


def check(settings: Settings) -> None:
    """Raise SettingsError where a broker elsewhere will never do: it is not the one meant, or does not know us.

    Nothing is said of one that is away: it may come.
    """
    if settings.embedded_broker:
        return
    client = connect(settings)
    try:
        client.ping()
    except redis.AuthenticationError:
        raise SettingsError("the broker does not take the user and password in REDIS_URL or REDIS_PASS") from None
    except redis.ConnectionError as error:
        if isinstance(reason := error.__context__, ssl.SSLCertVerificationError):
            told = f"the broker's certificate is not trusted: {reason.verify_message}"
            raise SettingsError(f"{told}; {variable('redis_ca_file')} names the CA that signed it") from None
    except redis.RedisError:
        pass
    finally:
        client.close()


class TrustingPool(redis.ConnectionPool):
    """Hands connections out unasked.

    redis-py polls each connection before each command, which doubles a command's cost under gevent. Here a dead one
    shows when the command is sent, and the client's retry policy sends it again on a new connection.
    """

    def get_connection(self, command_name: str | None = None, *keys: Any, **options: Any) -> Any:
        """Return a connected connection."""
        self._checkpid()
        connection: Any
        with self._lock:
            connection = self._available_connections.pop() if self._available_connections else self.make_connection()
            self._in_use_connections.add(connection)
        try:
            connection.connect()
        except BaseException:
            self.release(connection)
            raise
        return connection


def script(name: str) -> str:
    """Return the named Lua script of a task, behind what all of those share but the one of the tokens."""
    return plain_script(name) if name == "publish" else plain_script("common") + plain_script(name)


def plain_script(name: str) -> str:
    """Return the named Lua script as it is."""
    return (_SCRIPTS / f"{name}.lua").read_text()


@contextmanager
def broker_errors() -> Iterator[None]:
    """Raise BrokerUnavailable for what redis-py raises when the broker is down, starting, stuck, full or read-only."""
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError, redis.OutOfMemoryError, redis.ReadOnlyError) as error:
        raise BrokerUnavailable from error
