"""Celery's settings, out of graycat's; why each is as it is."""

from __future__ import annotations

from typing import Any

from kombu import Exchange, Queue
from redis.backoff import NoBackoff
from redis.retry import Retry

from graycat.broker import keys
from graycat.queue.topology import QUEUES, unacked
from graycat.settings import Settings

#: A beat that has missed this many ticks, for this many seconds at least, is replaced by another.
BEAT_TICKS, BEAT_LOCK_S = 3, 5.0
#: What is no worker: who sends the ticks that have schedules looked at.
BEAT = "beat"
#: The most slots of one engine that a worker can fill; threads are made when they are needed.
MAX_SLOTS = 1024


def from_settings(settings: Settings, kind: str = "") -> dict[str, Any]:
    """Return the configuration of the Celery application; ``kind``: what it is for, a worker of a kind or beat."""
    # Only beat knows of beat: its settings hold the broker's address, which ``celery report`` would print.
    return _broker(settings, kind) | _tasks() | _worker() | (_beat(settings) if kind == BEAT else {})


def _broker(settings: Settings, kind: str) -> dict[str, Any]:
    return {
        # kombu's name for redis-py's unix:// differs.
        "broker_url": settings.broker_url.replace("unix://", "redis+socket://", 1),
        "broker_connection_retry_on_startup": True,
        # A worker waits for a broker that is full, read-only or busy as for one that is away; by default it would end.
        "broker_channel_error_retry": True,
        # A worker that loses its broker comes back, however long it takes.
        "broker_connection_max_retries": None,
        "broker_transport_options": unacked(kind)
        | {
            # A dead worker's messages come back after this long; MaintenanceStep renews those of a living one.
            "visibility_timeout": settings.lease_s,
            # Look for lost messages every second (the defaults look every 100 s).
            "unacked_restore_interval": 1,
            "unacked_restore_throttle": 1,
            # A worker killed while it restores must not keep others from it for five minutes.
            "unacked_mutex_expire": 10,
            # The order of the queues is their priority; no message has one of its own, so a queue is one list.
            "queue_order_strategy": "priority",
            "priority_steps": [0],
            # What others have left behind is swept at home.
            "sweeps": kind in ("", "control"),
            # A broker that accepts and never answers is noticed; above BRPOP's one second.
            "socket_timeout": 5,
            "socket_connect_timeout": 1,
            "retry_on_timeout": True,
            "health_check_interval": 10,
        },
    }


def _tasks() -> dict[str, Any]:
    return {
        # Answers travel by the task's events; a result backend costs a write and a subscription a task,
        # and makes a submit block for 19 s while the broker is down.
        "task_ignore_result": True,
        # Nor is there anything for beat to clean up.
        "result_expires": None,
        # At least once: acknowledged when finished, handed back when the worker dies. The record's fence
        # and its terminal state keep a second delivery from running a second time.
        "task_acks_late": True,
        "task_reject_on_worker_lost": True,
        # Only data: a message can never run code.
        "accept_content": ["json"],
        "task_serializer": "json",
        "result_serializer": "json",
        "event_serializer": "json",
        "task_queues": [Queue(name, Exchange(name), routing_key=name) for name in QUEUES],
        "task_default_queue": "control",
        # No queue by a typing mistake.
        "task_create_missing_queues": False,
        # task-sent would double the latency of a submit.
        "task_send_sent_event": False,
    }


def _worker() -> dict[str, Any]:
    return {
        # What a worker takes, it runs: nothing waits in a worker while another one is free.
        "worker_prefetch_multiplier": 1,
        "worker_disable_prefetch": True,
        # A ceiling for the pool's threads; the gate sets how many run at once to the engine's slots.
        "worker_concurrency": MAX_SLOTS,
        # The gate's limit already counts what still runs after a reconnect.
        "worker_enable_prefetch_count_reduction": False,
        # What Flower and the exporter live on.
        "worker_send_task_events": True,
        # The stock consumer takes up to 30 s to come back from an outage.
        "worker_consumer": "graycat.worker.bootsteps:LowLatencyConsumer",
        "worker_pool": "threads",
        "worker_hijack_root_logger": False,
        "worker_redirect_stdouts": False,
    }


def _beat(settings: Settings) -> dict[str, Any]:
    return {
        # RedBeat, whose lock lets one of several beats tick.
        "beat_scheduler": "graycat.schedules.ticker:Ticker",
        # All that beat knows: what schedules there are, and what of them is due, the task finds out.
        "beat_schedule": {
            "fire-schedules": {
                "task": "control.fire_schedules",
                "schedule": settings.schedule_tick_s,
                # Without an end: where clocks differ, all would be over before they came. The ticker sends no more
                # where none is taken.
                "options": {"queue": "control"},
            }
        },
        # The pause of the loop, and that between two tries of a waiting beat to get the lock.
        "beat_max_loop_interval": settings.schedule_tick_s,
        # kombu's name for a Unix socket is none that redis-py takes.
        "redbeat_redis_url": settings.broker_url,
        "redbeat_key_prefix": keys.BEAT,
        # A beat that was killed is replaced after this long (by default after 25 minutes).
        "redbeat_lock_timeout": max(BEAT_LOCK_S, BEAT_TICKS * settings.schedule_tick_s),
        # RedBeat would take broker_transport_options, which mean nothing to redis-py.
        "redbeat_redis_options": {
            "socket_connect_timeout": 1,
            "socket_timeout": 2,
            "health_check_interval": 10,
            # The ticker tries again. redis-py would for up to a minute, and beat could not be stopped meanwhile.
            "retry": Retry(NoBackoff(), 1),
        },
    }
