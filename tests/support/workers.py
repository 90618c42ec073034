"""A worker without Celery around it: a real runtime on a scripted engine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import graycat.tasks.llm  # noqa: F401 (its tasks become those of every application)
import graycat.tasks.sd  # noqa: F401 (likewise)
from graycat.broker.client import connect
from graycat.celeryapp import GraycatCelery, create_celery
from graycat.engines.base import Engine, State
from graycat.engines.llama import LlamaEngine
from graycat.engines.process.supervisor import Supervisor
from graycat.queue.models import Attempt
from graycat.queue.records import TaskRecords
from graycat.settings import Settings
from graycat.tasks.base import EngineTask
from graycat.worker.runtime import EngineRuntime, process
from tests.support.helpers import Valkey, accepted, changed, claimed, eventually, outcome_of
from tests.support.servers import Answer, Seen, http_server, reply

#: What every scripted engine answers to its worker's own questions.
WELL = {"GET /health": reply(200, {"status": "ok"}), "GET /props": reply(200, {"total_slots": 2})}


@cache
def celery_app(home: Path) -> GraycatCelery:
    """Return an application of the broker in ``home``."""
    return create_celery(Settings(home=home))


class Worker:
    """What a worker process holds, and how a task is handed to it."""

    def __init__(
        self, broker: Valkey, engine: Engine, seen: Seen, queues: tuple[str, ...] = ("llm",), **changes: Any
    ) -> None:
        self.settings = changed(broker.settings, **changes)
        self.app = celery_app(broker.settings.home)
        self.seen = seen
        self.supervisor = Supervisor(engine, None)
        self.client = connect(self.settings)
        self.runtime = EngineRuntime(self.settings, f"{queues[0]}@here", queues, engine, self.supervisor, self.client)
        self.records: TaskRecords = self.runtime.records
        process.engine = self.runtime

    def raise_engine(self) -> None:
        """Supervise until the engine is ready."""
        for now in (0.0, 1.0):
            self.supervisor.step(now)
        assert self.supervisor.state is State.READY

    def accept(self, **changes: Any) -> str:
        """Accept a task; return its id."""
        return accepted(self.records, **changes)

    def claim(self, **changes: Any) -> Attempt:
        """Accept a task and claim it."""
        return claimed(self.records, self.accept(**changes), self.runtime.name)

    def task(self, kind: str = "llm.completion") -> EngineTask:
        """Return the Celery task of a kind."""
        task: Any = self.app.tasks[kind]
        assert isinstance(task, EngineTask)
        return task

    def run(self, task_id: str) -> None:
        """Run a task as Celery would, to its end."""
        self.task(self.records.get(task_id)["kind"]).execute(task_id)

    def begin(self, task_id: str) -> Callable[[], None]:
        """Run a task in a thread until the engine has it; return how to wait for its end."""
        self.seen.asked.clear()
        end = outcome_of(lambda: self.run(task_id))
        eventually(self.seen.asked.is_set)
        return end

    def ended(self, task_id: str) -> tuple[str, str]:
        """Return state and status of a task."""
        record = self.records.get(task_id)
        return record["state"], record.get("status", "")


@contextmanager
def worker_on(broker: Valkey, answers: dict[str, Answer], **options: Any) -> Iterator[Worker]:
    """Run a scripted engine for the block, and yield a worker whose engine it is, ready."""
    with http_server(WELL | answers) as seen:
        worker = Worker(broker, LlamaEngine("scripted", seen.url, start=None), seen, **options)
        worker.raise_engine()
        seen.requests.clear()
        seen.headers.clear()
        yield worker
        worker.client.close()
