"""The Celery application: made from settings; task modules and bootsteps are named, not imported."""

from __future__ import annotations

from typing import Any

from celery import Celery, signals

import celeryconfig
from graycat import log
from graycat.broker import transport
from graycat.settings import Settings

#: Loaded by workers when they start; a web process never imports them.
TASK_MODULES = (
    "graycat.tasks.llm",
    "graycat.tasks.sd",
    "graycat.webhooks.sender",
    "graycat.tasks.schedules",
    "graycat.worker.remote_control",
)
WORKER_STEPS = (
    "graycat.worker.bootsteps:EngineStep",
    "graycat.worker.bootsteps:LeaseStep",
    "graycat.worker.control:ControlStep",
    "graycat.worker.metrics_server:MetricsStep",
)
CONSUMER_STEPS = ("graycat.worker.gate:GateStep", "graycat.worker.control:PulseStep")


def create_celery(settings: Settings, gpu: int | None = None, kind: str = "") -> Celery:
    """Return the application, bound to the settings' broker.

    ``gpu`` is the one that its worker's engine pins, ``kind`` that worker's kind; '' for one of any queues.
    """
    transport.install()
    app = Celery("graycat", include=TASK_MODULES, set_as_current=False)
    app.conf.update(celeryconfig.from_settings(settings, kind))
    app.steps["worker"].update(WORKER_STEPS)
    app.steps["consumer"].update(CONSUMER_STEPS)

    # A receiver keeps Celery from setting up logging in its own way.
    @signals.setup_logging.connect(weak=False)
    def set_up_logging(**_: Any) -> None:
        log.setup(settings)

    # Bootsteps are made by Celery; this is how they know what they are for.
    app.graycat_settings, app.graycat_gpu, app.graycat_kind = settings, gpu, kind  # type: ignore[attr-defined]
    return app
