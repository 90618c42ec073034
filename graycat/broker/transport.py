"""kombu's Redis transport, changed so that it survives unreadable messages and wastes less time.

The stock transport raises an error out of the worker's event loop, which ends the worker, if a message is not JSON, if
its body is not base64, or if an unacknowledged entry is damaged; the last at each new start (kombu 5.7). This transport
puts such an item into the quarantine and goes on.

The stock transport also makes a new client object, and polls its connection, for each command. This one does not.

kombu chooses a transport by the scheme of a URL, so ``install`` registers this one for the schemes of Redis.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import Empty
from typing import Any, ClassVar
from uuid import uuid4

from kombu.transport import TRANSPORT_ALIASES, redis
from kombu.utils.encoding import bytes_to_str
from kombu.utils.json import dumps, loads
from redis.backoff import NoBackoff
from redis.exceptions import DataError, OutOfMemoryError, RedisError, ResponseError
from redis.retry import Retry

from graycat.broker.client import UncheckedConnectionPool
from graycat.broker.introduction import NO_INTRODUCTION
from graycat.broker.keys import HOME
from graycat.broker.quarantine import Quarantine, set_aside_key
from graycat.broker.wrong_types import is_wrong_type
from graycat.errors import BrokerUnavailable
from graycat.loops.unexpected import guarded, note

logger = logging.getLogger(__name__)

#: The longest message of a task that is read. Ours have about 1,100 bytes.
MAX_MESSAGE_BYTES = 16 * 1024


class QoS(redis.QoS):
    """The unacknowledged messages. An entry that cannot be read goes into the quarantine."""

    _looks = 0

    def restore_visible(self, start: int = 0, num: int = 10, interval: int = 10) -> None:
        """Put messages back whose workers have not renewed them; one worker of a kind at a time.

        kombu's own lock is released by a script, and a box may bring none.
        """
        self._looks += 1
        if (self._looks - 1) % (interval or 1):
            return
        channel: Any = self.channel
        with channel.conn_or_acquire() as client, self._lock(client) as is_mine:
            if not is_mine:
                return
            before = time.time() - self.visibility_timeout
            tags = client.zrange(
                self.unacked_index_key, before, 0, desc=True, byscore=True, offset=num and start, num=num
            )
            for tag in tags:
                self.restore_by_tag(tag, client)

    @contextmanager
    def _lock(self, client: Any) -> Iterator[bool]:
        """Yield whether this worker has the lock of those that put messages back."""
        name, token = self.unacked_mutex_key, uuid4().hex.encode()
        try:
            is_mine = bool(client.set(name, token, nx=True, ex=int(self.unacked_mutex_expire)))
        except OutOfMemoryError:
            # Nothing can be put back on a queue now. Everything else that a worker does works on a full broker.
            is_mine = False
        try:
            yield is_mine
        finally:
            # If it is over meanwhile, the next one's is deleted in between once in a long while: then two put back, and
            # each message is put back by one of them.
            if is_mine and client.get(name) == token:
                client.delete(name)

    def restore_by_tag(self, tag: Any, client: Any = None, leftmost: bool = False) -> None:
        """Put a message back on its queue.

        Raises what redis-py raises while the broker cannot be used.
        """
        try:
            super().restore_by_tag(tag, client=client, leftmost=leftmost)
        except Exception as error:
            # DataError: a part of the entry has a type that redis-py cannot send. Its other errors are the broker's.
            if isinstance(error, RedisError) and not isinstance(error, DataError):
                raise
            note("unacknowledged messages", error)
            self._set_aside(tag, error)

    def _set_aside(self, tag: Any, error: Exception) -> None:
        """Move an entry into the quarantine, so that it is not read again."""
        with self.channel.conn_or_acquire() as client:  # type: ignore[attr-defined]
            entry = client.hget(self.unacked_key, tag)
        self.channel.set_aside("unacknowledged messages", entry or b"", type(error).__name__)  # type: ignore[attr-defined]
        self._remove_from_indices(tag).execute()  # type: ignore[attr-defined]


class Channel(redis.Channel):
    """A channel that keeps its client. A new client costs an eighth of all that a worker does for a short task."""

    QoS = QoS
    #: A channel that closes must not put the messages of running tasks back. Leases bring back what is lost.
    do_restore = False
    from_transport_options = (*redis.Channel.from_transport_options, "sweeps", "restores_to", "share")
    #: Whether it writes bindings, and deletes those of clients that are gone. A worker with an engine needs none of its
    #: own: remote control comes over a channel, and tasks are pushed onto their queues by graycat's own scripts.
    sweeps = True
    #: The queues, with those of their models and workers, that unacknowledged messages may be put back on. Boxes write
    #: these entries: none may bring a message into a queue that a box does not take from.
    restores_to: tuple[str, ...] = ()
    #: Where items that cannot be used are put: one of ``keys.SHARES``.
    share = HOME
    _kept_client: Any = None

    def sweep_bindings(self, limit: int = 100) -> int:
        """Delete binding tables that were not refreshed in time; return how many were checked."""
        if not self.sweeps:
            return 0
        return int(super().sweep_bindings(limit))  # type: ignore[misc]

    def set_aside(self, where: str, data: bytes | str, reason: str) -> None:
        """Put an unusable item into the quarantine, if the broker allows it."""
        if isinstance(data, str):
            data = data.encode()
        try:
            with self.conn_or_acquire() as client:
                Quarantine(client, self.share).put(where, data, reason)
        except (BrokerUnavailable, RedisError):
            logger.warning("item could not be set aside", extra={"where": where, "bytes": len(data)})

    def _brpop_read(self, **options: Any) -> bool:
        """Take one message from the reply to BRPOP, as kombu does. A message that is not JSON is set aside."""
        try:
            try:
                reply = self.client.parse_response(self.client.connection, "BRPOP", **options)
            except self.connection_errors:  # type: ignore[attr-defined]
                # The next round connects again.
                self.client.connection.disconnect()
                raise
            except ResponseError as error:
                if not is_wrong_type(error):
                    raise
                for queue in self.active_queues:
                    self._set_aside_wrong_key(queue, "list")
                raise Empty from error
            if not reply:
                raise Empty
            queue = bytes_to_str(reply[0]).rsplit(self.sep, 1)[0]
            self._queue_cycle.rotate(queue)  # type: ignore[attr-defined]
            self._deliver_item(queue, reply[1])
            return True
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()  # type: ignore[attr-defined]

    def _size(self, queue: str) -> int:
        """Return how many messages a queue holds; kombu asks for it when it declares a queue."""
        try:
            return int(super()._size(queue))
        except ResponseError as error:
            if not is_wrong_type(error):
                raise
            self._set_aside_wrong_key(queue, "list")
            return 0

    def _refresh_bindings(self, queues: Any) -> None:
        if self.sweeps:
            super()._refresh_bindings(queues)  # type: ignore[misc]

    def _delete(self, queue: str, exchange: str, routing_key: str, pattern: str, *args: Any, **options: Any) -> None:
        """Delete a queue, and its bindings if this worker writes any."""
        if self.sweeps:
            super()._delete(queue, exchange, routing_key, pattern, *args, **options)
            return
        self.auto_delete_queues.discard(queue)
        with self.conn_or_acquire(client=options.get("client")) as client:
            client.delete(queue)

    def _queue_bind(self, exchange: str, routing_key: str, pattern: str, queue: str) -> None:
        """Note which queue an exchange leads to."""
        if not self.sweeps:
            if self.typeof(exchange).type == "fanout":
                fanout: dict[str, tuple[str, str]] = self._fanout_queues  # type: ignore[attr-defined]
                fanout[queue] = (exchange, routing_key.replace("#", "*"))
            return
        try:
            super()._queue_bind(exchange, routing_key, pattern, queue)  # type: ignore[misc]
        except ResponseError as error:
            if not is_wrong_type(error):
                raise
            self._set_aside_wrong_key(self.keyprefix_queue % exchange, "set")
            super()._queue_bind(exchange, routing_key, pattern, queue)  # type: ignore[misc]

    def _do_restore_message(
        self, payload: Any, exchange: Any, routing_key: Any, pipe: Any, leftmost: bool = False
    ) -> None:
        """Put an unacknowledged message back on its queue. Raises ValueError for what is none: kombu would drop it."""
        check_form(payload)
        if not isinstance(exchange, str) or not isinstance(routing_key, str):
            raise ValueError("a message has an exchange and a routing key")
        if routing_key.partition(":")[0] not in self.restores_to:
            raise ValueError("a message of another kind of workers")
        # Not kombu's bindings: each queue has an exchange of its own name.
        payload["properties"]["delivery_info"]["redelivered"] = True
        if isinstance(payload.get("headers"), dict):
            payload["headers"]["redelivered"] = True
        push = pipe.lpush if leftmost else pipe.rpush
        push(routing_key, dumps(payload))

    def _set_aside_wrong_key(self, key: str, wanted: str) -> None:
        """Rename a key of another type than wanted: each command on it would fail, for ever and for all queues."""
        with self.conn_or_acquire() as client:
            set_aside_key(client, "queue", key, wanted)

    def _deliver_item(self, queue: str, item: bytes) -> None:
        try:
            if len(item) > MAX_MESSAGE_BYTES:
                raise ValueError("longer than any message of a task")
            message = loads(bytes_to_str(item))
        except Exception as error:  # noqa: BLE001 (deep JSON raises RecursionError, kombu's own types raise anything)
            note("queue", error)
            self.set_aside(f"queue {queue}", item, type(error).__name__)
            return
        transport: Any = self.connection
        transport._deliver(message, queue, item)

    def _receive_one(self, connection: Any) -> Any:
        """Take one message of remote control from its channel. One that cannot be read is passed over.

        kombu itself does so for what is not JSON, and raises the same.
        """
        try:
            return super()._receive_one(connection)  # type: ignore[misc]
        except (Empty, RedisError, *self.connection_errors):  # type: ignore[attr-defined]
            raise
        except Exception as error:
            note("remote control", error)
            raise Empty from error

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        params: dict[str, Any] = super()._connparams(asynchronous=asynchronous)  # type: ignore[misc]
        if asynchronous:
            # redis-py would open a lost subscription again by itself and wait for its next message, without a deadline,
            # in the thread of the event loop: the worker would take no task until somebody sends it a command.
            params["retry"] = Retry(NoBackoff(), 0)
        return params | NO_INTRODUCTION

    def _get_pool(self, asynchronous: bool = False) -> Any:
        if asynchronous:
            return super()._get_pool(asynchronous=True)  # type: ignore[misc]
        params = self._connparams()
        self.keyprefix_fanout = self.keyprefix_fanout.format(db=params["db"])
        return UncheckedConnectionPool(**params)

    def _create_client(self, asynchronous: bool = False) -> Any:
        """Return a client of the pool. Any thread may use it, since each command takes its own connection."""
        if asynchronous:
            return super()._create_client(asynchronous=True)  # type: ignore[misc]
        # Kept after the channel is closed: a task that outlives its connection is acknowledged through this client.
        # A reconnect makes a new channel.
        if self._kept_client is None:
            self._kept_client = super()._create_client()  # type: ignore[misc]
        return self._kept_client


class Transport(redis.Transport):
    """The Redis transport with the channel above."""

    Channel = Channel
    #: Makes of a message and the name of its queue the message that is delivered. Raises ValueError for what is none.
    purify: ClassVar[Any]

    def register_with_event_loop(self, connection: Any, loop: Any) -> None:
        """Have the event loop read a new connection. If that fails, Celery forgets the connection: it is closed here.

        Raises what redis-py raises.
        """
        try:
            super().register_with_event_loop(connection, loop)
        except Exception:
            self.close_connection(connection)
            raise

    def _deliver(self, message: Any, queue: str | None, item: bytes | None = None) -> None:
        """Hand a message to its consumer. An unusable message is set aside and acknowledged.

        ``item``: the message as the queue held it.
        """
        with guarded(
            "queue",
            let_through=(*self.connection_errors, *self.channel_errors),
            set_aside=lambda reason: self._set_aside(message, queue, item, reason),
        ):
            check_form(message)
            super()._deliver(self.purify(message, queue or ""), queue)

    def _set_aside(self, message: Any, queue: str | None, item: bytes | None, reason: str) -> None:
        channel: Any = next(iter(self.channels or ()))
        if item is None:
            item = json.dumps(message, default=repr).encode()
        channel.set_aside(f"queue {queue}", item, reason)
        if isinstance(message, dict) and isinstance(message.get("properties"), dict):
            # Otherwise it would be delivered again each time that its lease ends.
            channel.qos.ack(str(message["properties"].get("delivery_tag")))


def check_form(message: Any) -> None:
    """Raise ValueError if a message lacks a part that kombu needs.

    kombu would raise KeyError for some of them, which it treats like a lost connection.
    """
    if not isinstance(message, dict) or not isinstance(message.get("headers") or {}, dict):
        raise ValueError("a message is an object with headers")
    properties = message.get("properties")
    if not isinstance(properties, dict) or not isinstance(properties.get("delivery_tag"), str):
        raise ValueError("a message has properties with a delivery tag")
    route = properties.get("delivery_info")
    if not isinstance(route, dict) or not {"exchange", "routing_key"} <= route.keys():
        raise ValueError("a message has a route")


def install(purify: Callable[[dict[str, Any], str], dict[str, Any]]) -> None:
    """Use this transport for every address of Redis and of its sentinels; ``purify``: as of Transport."""
    Transport.purify = staticmethod(purify)
    TRANSPORT_ALIASES.update(dict.fromkeys(("redis", "rediss"), f"{__name__}:Transport"))
    TRANSPORT_ALIASES["sentinel"] = "graycat.broker.sentinel_transport:SentinelTransport"
