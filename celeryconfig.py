"""Celery's settings, made from graycat's, with the reason for each."""

from __future__ import annotations

from typing import Any

from kombu import Exchange, Queue
from redis.backoff import NoBackoff
from redis.retry import Retry

from graycat.broker import keys
from graycat.queue.redelivery import redelivery_options, restored_queues
from graycat.queue.topology import QUEUES
from graycat.settings import Settings

#: A beat that has missed this many ticks, for this many seconds at least, is replaced by another.
BEAT_TICKS, BEAT_LOCK_S = 3, 5.0
#: The kind of an application that is no worker but beat, which triggers the check of the schedules.
BEAT = "beat"
#: Slots of one engine that a worker can fill; threads are started when they are needed.
MAX_SLOTS = 1024


def from_settings(settings: Settings, kind: str = "") -> dict[str, Any]:
    """Return the configuration of the Celery application; ``kind``: that of its worker, or ``beat``."""
    configuration = _broker(settings, kind) | _tasks() | _worker()
    if kind == BEAT:
        # Only for beat: its settings have the broker's address, which ``celery report`` would print.
        configuration |= _beat(settings)
    return configuration


def _broker(settings: Settings, kind: str) -> dict[str, Any]:
    return {
        # kombu's name for redis-py's unix:// differs.
        "broker_url": settings.broker_url.replace("unix://", "redis+socket://", 1),
        "broker_connection_retry_on_startup": True,
        # A worker waits for a broker that is full, read-only or busy as for one that is away; by default it would end.
        "broker_channel_error_retry": True,
        # A worker that loses its broker comes back, however long it takes.
        "broker_connection_max_retries": None,
        "broker_transport_options": redelivery_options(settings, kind)
        | {
            # The order of the queues is their priority; no message has one of its own, so a queue is one list.
            "queue_order_strategy": "priority",
            "priority_steps": [0],
            # Only the control worker, or one without a kind, sweeps what dead workers of all kinds have left.
            "sweeps": kind in ("", "control"),
            "restores_to": restored_queues(kind),
            "share": keys.share_of_worker(kind),
            # Notices a broker that accepts connections and never replies; longer than BRPOP's one second.
            "socket_timeout": 5,
            "socket_connect_timeout": 1,
            "retry_on_timeout": True,
            "health_check_interval": 10,
        }
        | _sentinel(settings),
    }


def _sentinel(settings: Settings) -> dict[str, Any]:
    """Return the options of a broker that sentinels watch."""
    if settings.sentinel is None:
        return {}
    # The name is for Flower, which reads these options, too.
    return {"sentinel": settings.sentinel, "master_name": settings.sentinel.master}


def _tasks() -> dict[str, Any]:
    return {
        # Answers are events of the task. A result backend would cost a write and a subscription per task, and would
        # block a submit for 19 s while the broker is down.
        "task_ignore_result": True,
        # So beat has no results to clean up.
        "result_expires": None,
        # Delivery at least once: a message is acknowledged when its task has ended, and handed back when the worker
        # dies. The record's fence and terminal state keep a task that is delivered twice from running twice.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # Only data: a message can never run code.
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "event_serializer": "json",
        "task_queues": [Queue(name, Exchange(name), routing_key=name) for name in QUEUES],
        "task_default_queue": "control",
        # A typing mistake must not create a queue.
        "task_create_missing_queues": False,
        # task-sent would double the latency of a submit.
        "task_send_sent_event": False,
    }


def _worker() -> dict[str, Any]:
    return {
        # A worker takes only what it runs now, so nothing waits in it while another worker is free.
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        # A ceiling for the pool's threads; the gate sets how many run at once to the engine's slots.
        "worker_concurrency": MAX_SLOTS,
        # A limited task would wait in one worker's memory, where nothing renews its message.
        "worker_disable_rate_limits": True,
        # The gate's limit already counts what still runs after a reconnect.
        "worker_enable_prefetch_count_reduction": False,
        # Flower and the exporter need them.
        "worker_send_task_events": True,
        # The stock consumer takes up to 30 s to come back from an outage.
        "worker_consumer": "graycat.worker.bootsteps:LowLatencyConsumer",
        "worker_pool": "threads",
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
    }


def beat_lock_s(settings: Settings) -> float:
    """Return the seconds for which a beat keeps its lock without a tick."""
    return max(BEAT_LOCK_S, BEAT_TICKS * settings.schedule_tick_s)


def _beat(settings: Settings) -> dict[str, Any]:
    return {
        # Based on RedBeat, whose lock makes one of several beats the active one.
        "beat_scheduler": "graycat.schedules.ticker:Ticker",
        # The only entry. The task that it sends reads the schedules and finds out which are due.
        "beat_schedule": {
            "fire-schedules": {
                "task": "control.fire_schedules",
                "schedule": settings.schedule_tick_s,
                # Without an expiry: if clocks differ, messages would expire before they arrive. The ticker stops
                # sending while no worker takes them.
                "options": {"queue": "control"},
            }
        },
        # The pause of the loop, and between two attempts of a waiting beat to get the lock.
        "beat_max_loop_interval": settings.schedule_tick_s,
        # In redis-py's form: it does not know kombu's name for a Unix socket. With sentinels, the ticker connects.
        "redbeat_redis_url": settings.broker_url,
        "redbeat_key_prefix": keys.BEAT,
        # A beat that was killed is replaced after this long (by default after 25 minutes).
        "redbeat_lock_timeout": beat_lock_s(settings),
        # Without it RedBeat would pass broker_transport_options to redis-py, which does not know them.
        "redbeat_redis_options": {
            "socket_connect_timeout": 1,
            "socket_timeout": 2,
            "health_check_interval": 10,
            # The ticker tries again. redis-py would for up to a minute, and beat could not be stopped meanwhile.
            "retry": Retry(NoBackoff(), 1),
        },
    }
