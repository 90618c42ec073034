"""The bootstep that serves a worker's metrics and its health, on the port of its kind and GPU."""

from __future__ import annotations

import logging

from celery import bootsteps, signals
from prometheus_client import ProcessCollector

from graycat.metrics import worker as work
from graycat.metrics.server import MetricsServer, join_collectors, metrics_port
from graycat.settings import variable
from graycat.worker.bootsteps import EngineStep, has_engine
from graycat.worker.protocols import CeleryWorker
from graycat.worker.runtime import process

logger = logging.getLogger(__name__)


class MetricsStep(bootsteps.StartStopStep):
    """Serves metrics from the worker's start until its last task is finished."""

    requires = (EngineStep,)

    def include_if(self, worker: CeleryWorker) -> bool:
        """Return whether a port is set for the worker."""
        app = worker.app
        return metrics_port(app.settings, app.kind, app.gpu) != 0

    def start(self, worker: CeleryWorker) -> None:
        """Start serving. If the port is in use, the error is logged and the worker works without metrics."""
        app = worker.app
        settings = app.settings
        port = metrics_port(settings, app.kind, app.gpu)
        sources = [work.registry, ProcessCollector(registry=None)]
        runtime = process.engine
        if has_engine(app) and runtime is not None and runtime.child is not None:
            supervisor = runtime.supervisor
            sources.append(work.EngineCounts(lambda: supervisor.starts, lambda: supervisor.load_s))
        try:
            endpoint = MetricsServer(
                join_collectors(*sources), settings.metrics_host, port, settings.metrics_token, process.trouble
            )
        except OSError as error:
            name = variable("metrics_port")
            extra = {"port": port, "setting": name, "reason": error}
            logger.error("no metrics: port cannot be used", extra=extra)  # noqa: TRY400 (the reason is enough)
            return
        endpoint.start()
        logger.debug("metrics served", extra={"port": port})
        signals.worker_shutdown.connect(endpoint.stop, weak=False)
