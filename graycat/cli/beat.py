"""``graycat beat``: the clock that has schedules looked at. Any number may run; one of them ticks."""

from __future__ import annotations

import logging
import signal
import sys
import threading
from collections.abc import Sequence
from typing import Any

import click
import redis
from celery import Celery
from celery.beat import Service
from kombu.exceptions import OperationalError

import celeryconfig
from graycat import log
from graycat.broker.client import check, connect
from graycat.celeryapp import create_celery
from graycat.errors import BrokerUnavailable
from graycat.schedules import file
from graycat.schedules.definition import Schedule
from graycat.schedules.records import ScheduleRecords
from graycat.schedules.ticker import AGAIN_S
from graycat.settings import Settings

logger = logging.getLogger(__name__)


@click.command()
def beat() -> None:
    """Have what is due by the schedules submitted; of several beats, one does so at a time."""
    settings = Settings.from_env()
    check(settings)
    log.setup(settings)
    # A lock that could not be waited for is told by the ticker; Celery would add a traceback.
    logging.getLogger("celery.utils.dispatch.signal").setLevel(logging.CRITICAL)
    schedules = file.load(settings)
    # Celery's loop ends at these, and lets go of the lock.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    sync(settings, schedules)
    run(create_celery(settings, kind=celeryconfig.BEAT))


def _stop(*_: Any) -> None:
    sys.exit(0)


def sync(settings: Settings, schedules: Sequence[Schedule]) -> None:
    """Have the broker hold the schedules of the file; one that is away is waited for."""
    pause = threading.Event()
    client = connect(settings)
    records = ScheduleRecords(client, settings)
    while True:
        try:
            file.sync(records, schedules)
            client.close()
            return
        except BrokerUnavailable:
            pause.wait(AGAIN_S)


def run(app: Celery) -> None:
    """Tick until SystemExit; a broker that is away, or a lock that another has, is waited for."""
    pause = threading.Event()
    while True:
        try:
            Service(app, scheduler_cls=app.conf.beat_scheduler).start()
            return
        except (redis.RedisError, OperationalError, OSError) as error:
            # redis-py's words for a lost connection may hold an address, never a password.
            logger.warning("beat begins again", extra={"reason": type(error).__name__})
            pause.wait(AGAIN_S)
