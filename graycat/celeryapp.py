"""The Celery application: made from settings; task modules and bootsteps are named, not imported."""

from __future__ import annotations

from typing import Any

from celery import Celery, signals

import celeryconfig
from graycat import log
from graycat.broker import transport
from graycat.families import FAMILIES
from graycat.queue.received import purify
from graycat.queue.topology import CONTROL, WORKER_KINDS
from graycat.settings import Settings

#: Workers load these when they start; a web process never imports them.
TASK_MODULES = (
    *(family.task_module for family in FAMILIES),
    "graycat.tasks.webhooks",
    "graycat.tasks.schedules",
    "graycat.worker.remote_control",
    "graycat.worker.celery_commands",
)
WORKER_STEPS = (
    "graycat.worker.stopping:StopStep",
    "graycat.worker.bootsteps:EngineStep",
    "graycat.worker.bootsteps:MaintenanceStep",
    "graycat.worker.metrics_server:MetricsStep",
)
CONSUMER_STEPS = ("graycat.worker.gate:GateStep",)
#: What a worker that takes the control queue loads beside these: schedules, batches and their galleries.
CONTROL_STEP, HEARTBEAT_STEP = (
    "graycat.worker.control:ControlStep",
    "graycat.worker.control:HeartbeatStep",
)


class GraycatCelery(Celery):
    """The application of one process. Celery itself makes the bootsteps; they find here what the process is for.

    ``gpu`` is the index of the GPU that the engine of this worker pins, None for the CPU. ``kind`` is the kind of
    worker, '' if it is of no kind: a worker of any queues, or another process.
    """

    def __init__(self, settings: Settings, gpu: int | None = None, kind: str = "") -> None:
        super().__init__("graycat", include=TASK_MODULES, set_as_current=False)
        self.settings = settings
        self.gpu = gpu
        self.kind = kind
        self.conf.update(celeryconfig.from_settings(settings, kind))
        self.steps["worker"].update(WORKER_STEPS)
        self.steps["consumer"].update(CONSUMER_STEPS)
        if kind not in WORKER_KINDS or CONTROL in WORKER_KINDS[kind].queues:
            self.steps["worker"].add(CONTROL_STEP)
            self.steps["consumer"].add(HEARTBEAT_STEP)


def create_celery(settings: Settings, gpu: int | None = None, kind: str = "") -> GraycatCelery:
    """Return the application, bound to the settings' broker; ``gpu`` and ``kind`` as in GraycatCelery."""
    transport.install(purify)
    app = GraycatCelery(settings, gpu, kind)

    # A receiver keeps Celery from setting up logging in its own way.
    @signals.setup_logging.connect(weak=False)
    def set_up_logging(**_: Any) -> None:
        log.setup(settings)

    return app
