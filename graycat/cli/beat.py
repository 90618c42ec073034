"""``graycat beat``: submits the batches of schedules when they are due. Any number may run; one of them is active."""

from __future__ import annotations

import logging
import signal
import sys
import threading
import time
from collections.abc import Sequence
from typing import Any

import click
import redis
from celery import Celery
from celery.beat import Service
from kombu.exceptions import OperationalError
from prometheus_client import ProcessCollector

import celeryconfig
from graycat import log
from graycat.broker.client import broker_errors, check, connect
from graycat.broker.keys import BEAT_LOCK
from graycat.broker.protocol import Broker
from graycat.celeryapp import create_celery
from graycat.errors import BrokerUnavailable
from graycat.loops.unexpected import guarded, note
from graycat.metrics.server import MetricsServer, join_collectors, metrics_port
from graycat.schedules import file
from graycat.schedules.definition import Schedule
from graycat.schedules.records import ScheduleRecords
from graycat.schedules.ticker import RETRY_INTERVAL_S, Ticker
from graycat.settings import Settings

logger = logging.getLogger(__name__)

#: Seconds that the broker may take to answer a health check.
HEALTH_TIMEOUT_S = 1.0


@click.command()
def beat() -> None:
    """Run the clock of the schedules.

    It has batches submitted when they are due. Of several beats, one is active at a time.
    """
    settings = Settings.from_env()
    check(settings)
    log.setup(settings)
    # The ticker logs that it cannot get the lock; Celery would add a traceback.
    logging.getLogger("celery.utils.dispatch.signal").setLevel(logging.CRITICAL)
    schedules = file.load(settings)
    # SystemExit ends Celery's loop, which releases the lock.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)
    serve_health(settings)
    sync(settings, schedules)
    run(create_celery(settings, kind=celeryconfig.BEAT))


def serve_health(settings: Settings) -> None:
    """Serve ``/health`` and the metrics of this process behind GRAYCAT_METRICS_PORT, if that is set.

    If the port is in use, the error is logged and beat goes on without.
    """
    port = metrics_port(settings, celeryconfig.BEAT, None)
    if not port:
        return
    client = connect(settings, timeout_s=HEALTH_TIMEOUT_S)
    registry = join_collectors(ProcessCollector(registry=None))
    try:
        server = MetricsServer(
            registry, settings.metrics_host, port, settings.metrics_token, lambda: trouble(client, settings)
        )
    except OSError as error:
        logger.error("no metrics: port cannot be used", extra={"port": port, "reason": error})  # noqa: TRY400
        return
    server.start()


def trouble(client: Broker, settings: Settings) -> str:
    """Return why no schedule fires; '' while this beat ticks, or waits for another one that does."""
    if time.monotonic() - Ticker.ticked_at < celeryconfig.beat_lock_s(settings):
        return ""
    try:
        with broker_errors():
            another_ticks = bool(client.exists(BEAT_LOCK))
    except BrokerUnavailable:
        return "the broker does not answer"
    if another_ticks:
        return ""
    return "no beat ticks"


def _exit(*_: Any) -> None:
    sys.exit(0)


def sync(settings: Settings, schedules: Sequence[Schedule]) -> None:
    """Make the broker's schedules match those of the file; wait while the broker does not answer."""
    pause = threading.Event()
    client = connect(settings)
    records = ScheduleRecords(client, settings)
    while True:
        try:
            with guarded("schedules", let_through=(BrokerUnavailable,)):
                file.sync(records, schedules)
            client.close()
            return
        except BrokerUnavailable as error:
            logger.warning("broker unavailable", extra={"reason": type(error.__cause__).__name__})
            pause.wait(RETRY_INTERVAL_S)


def run(app: Celery) -> None:
    """Run until SystemExit; wait while the broker does not answer, or while another beat has the lock."""
    pause = threading.Event()
    while True:
        try:
            Service(app, scheduler_cls=app.conf.beat_scheduler).start()
            return
        except (BrokerUnavailable, redis.RedisError, OperationalError, OSError) as error:
            logger.warning("beat begins again", extra={"reason": type(error).__name__})
        except Exception as error:  # noqa: BLE001 (without beat, no schedule fires)
            note("beat", error)
        pause.wait(RETRY_INTERVAL_S)
